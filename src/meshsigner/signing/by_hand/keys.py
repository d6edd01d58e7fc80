"""The key that a certificate is asked for: in a file beside the CA, until the certificate is there.

Decides where a new key waits: in `next-ca-key.pem`, beside the CA in use,
which signs on. A key in an HSM is `signing.pkcs11`'s matter.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner.errors import ConfigurationError
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.local_key import local_key
from meshsigner.signing.making import render_key
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import check_key_mode, read_file
from meshsigner.trust.pem import PrivateKey, parse_private_key
from meshsigner.trust.writing import PRIVATE_MODE, locked, write_file

NEXT_KEY = "next-ca-key.pem"
KeyType = Literal["p256", "p384", "rsa-2048", "rsa-3072", "rsa-4096"]


class HeldKey(Protocol):
    """A private key that a certificate is asked for.

    Attributes:
        public_key: Its public half.
    """

    @property
    def public_key(self) -> CaPublicKey:
        """Its public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign a message as X.509 has it."""
        ...


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key in memory, from a file.

    Attributes:
        key: The private key.
    """

    key: PrivateKey = field(repr=False)

    @property
    def public_key(self) -> CaPublicKey:
        """Its public half."""
        return self.key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Sign a message as X.509 has it."""
        return local_key(self.key).sign(message)

    def render(self) -> bytes:
        """Write it as a file holds it."""
        return render_key(self.key)


def waiting_key(directory: Path) -> FileKey:
    """Return the key that waits for its certificate.

    Raises:
        ConfigurationError: There is none, or others can read it.
    """
    path, findings = directory / NEXT_KEY, Findings()
    if not path.exists():
        raise ConfigurationError(
            f"{path}: there is no key that waits for a certificate; expected the one of the "
            "request; run `meshsigner intermediate request` first, then install what is signed for "
            "it"
        )
    check_key_mode(path, findings)
    data = read_file(path, findings)
    key = None if data is None else parse_private_key(data, path, findings)
    if findings.problems or key is None:
        raise ConfigurationError(*findings.problems)
    return FileKey(key)


def ensure_waiting_key(directory: Path, kind: KeyType) -> tuple[FileKey, bool]:
    """Return the key that waits; make it when there is none.

    Args:
        directory: Of the CA; made with mode 0700 when it is not there.
        kind: Of a new key.

    Returns:
        The key, and whether it is new.

    Raises:
        ConfigurationError: The one that waits cannot be used, or none can be written.
    """
    path = directory / NEXT_KEY
    try:
        with locked(directory):
            if path.exists():
                return waiting_key(directory), False
            made = FileKey(_make(kind))
            write_file(path, made.render(), mode=PRIVATE_MODE)
    except OSError as error:
        raise ConfigurationError(
            f"{directory}: no key can be kept there ({error.strerror}); expected a directory that "
            "this user may write; choose another or fix its mode"
        ) from error
    return made, True


def _make(kind: KeyType) -> PrivateKey:
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    size = int(kind.removeprefix("rsa-"))
    return rsa.generate_private_key(public_exponent=65_537, key_size=size)
