"""A CA that gives intermediates, in memory: away, throttled, or giving something odd on command."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from meshsigner.errors import MeshsignerError
from meshsigner.signing.intermediate.source import Granted
from tests.fakes.authority import Ca


@dataclass
class FakeCaAbove:
    """Signs CAs below a root.

    Attributes:
        root: Signs.
        clock: Returns the time.
        where: For messages.
        error: Raised instead of an answer, when set.
        path_length: Of what it gives.
        key: Certified instead of the one that was asked for, when set.
        with_root: Whether the root is at the end of the chain.
        asked: Common names so far.
    """

    root: Ca
    clock: Callable[[], datetime]
    where: str = "ca above"
    error: MeshsignerError | None = None
    path_length: int | None = 0
    key: Ca | None = None
    with_root: bool = True
    asked: list[str] = field(default_factory=list)
    started: bool = False
    closed: bool = False

    async def start(self) -> None:
        """Note it."""
        self.started = True

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True

    async def request(self, csr_pem: str, common_name: str, lifetime: timedelta) -> Granted:
        """Sign, or fail as told."""
        self.asked.append(common_name)
        if self.error is not None:
            raise self.error
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        certificate = self._certify(csr, common_name, lifetime)
        above = (self.root.certificate,) if self.with_root else ()
        return Granted(chain=(certificate, *above))

    def _certify(
        self, csr: x509.CertificateSigningRequest, common_name: str, lifetime: timedelta
    ) -> x509.Certificate:
        now = self.clock()
        key = self.key.key.public_key() if self.key else csr.public_key()
        usage = csr.extensions.get_extension_for_class(x509.KeyUsage).value
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.root.certificate.subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=30))
            .not_valid_after(now + lifetime)
            .public_key(key)
            .add_extension(
                x509.BasicConstraints(ca=True, path_length=self.path_length), critical=True
            )
            .add_extension(usage, critical=True)
            .sign(self.root.key, hashes.SHA256())
        )
