"""An OpenBao for tests, behind the seam of its client: a PKI and a transit engine in memory.

Tests change its world: what a path answers, which answers are lost, which fields of a
certificate come out otherwise.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.errors import BackendUnavailable, MeshsignerError
from tests.fakes.authority import NOW, Ca

Data = Mapping[str, Any]
Handler = Callable[[Data], Data]


@dataclass
class FakeOpenBao:
    """Answers calls from a table of paths.

    Attributes:
        handlers: What each path answers.
        errors: What each path raises instead; `*` for every path.
        calls: Method, path and body of every call.
        started: `start` was called.
        closed: `aclose` was called.
    """

    handlers: dict[str, Handler] = field(default_factory=dict)
    errors: dict[str, MeshsignerError] = field(default_factory=dict)
    calls: list[tuple[str, str, Data]] = field(default_factory=list)
    started: bool = False
    closed: bool = False

    async def start(self) -> None:
        """Note it."""
        self.started = True

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True

    async def call(
        self,
        method: str,
        path: str,
        body: Data | None = None,
        *,
        deadline_s: float | None = None,
        maybe_issued: bool = False,
    ) -> Data:
        """Answer from the table."""
        del deadline_s, maybe_issued
        self.calls.append((method, path, body or {}))
        error = self.errors.get(path) or self.errors.get("*")
        if error is not None:
            raise error
        if path not in self.handlers:
            raise BackendUnavailable(f"{path}: there is nothing")
        return self.handlers[path](body or {})


@dataclass
class FakePki:
    """A PKI mount `pki` with the role `workloads`.

    Attributes:
        issuer: Signs.
        above: What stands above it, the root last.
        backdate: Of certificates.
        longest: The role's maximum, applied to a `ttl` in silence.
        spoil: Changes a certificate on its way to be signed.
        stored: Every certificate so far, by serial as OpenBao writes it.
        rights: What the token may do at the role.
    """

    issuer: Ca
    above: tuple[Ca, ...]
    backdate: timedelta = timedelta(minutes=2)
    longest: timedelta = timedelta(days=90)
    spoil: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] = lambda b: b
    stored: dict[str, x509.Certificate] = field(default_factory=dict)
    rights: tuple[str, ...] = ("update",)

    def mount(self, bao: FakeOpenBao) -> None:
        """Put it into a server."""
        path = "pki/sign/workloads"
        bao.handlers |= {
            path: self.sign,
            "pki/issuer/default/json": lambda _: {"ca_chain": self._chain()},
            "sys/capabilities-self": lambda _: {path: list(self.rights)},
            "pki/certs/detailed?limit=1000": self._list,
            "pki/cert/ca_chain": lambda _: {"ca_chain": "\n".join(self._chain())},
        }
        self._bao = bao

    def sign(self, body: Data) -> Data:
        """Sign as the role in docs/backends.md does."""
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        if "not_after" in body:
            end = datetime.fromisoformat(body["not_after"])
        else:
            asked = timedelta(seconds=int(body["ttl"].removesuffix("s")))
            end = NOW + min(asked, self.longest)
        leaf = self.spoil(self._builder(csr, body["uri_sans"], end)).sign(
            self.issuer.key, hashes.SHA256()
        )
        serial = leaf.serial_number.to_bytes(20, "big").hex(":")
        self.stored[serial] = leaf
        pem = leaf.public_bytes(Encoding.PEM).decode()
        self._bao.handlers[f"pki/cert/{serial}"] = lambda _: {"certificate": pem}
        return {"certificate": pem, "ca_chain": self._chain()}

    def _builder(
        self, csr: x509.CertificateSigningRequest, uri: str, end: datetime
    ) -> x509.CertificateBuilder:
        usage = dict.fromkeys(
            (
                *("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign"),
                *("crl_sign", "encipher_only", "decipher_only"),
            ),
            False,
        )
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuer.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.certificate.subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - self.backdate)
            .not_valid_after(end)
            .public_key(csr.public_key())
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_encipherment=True, **usage),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True
            )
        )

    def _chain(self) -> list[str]:
        return [ca.pem.decode() for ca in (self.issuer, *self.above)]

    def _list(self, _: Data) -> Data:
        details = {
            serial: {
                "not_before": leaf.not_valid_before_utc.isoformat(),
                "not_after": leaf.not_valid_after_utc.isoformat(),
            }
            for serial, leaf in self.stored.items()
        }
        return {"keys": list(self.stored), "key_info": details}


@dataclass
class FakeTransit:
    """A transit mount `transit` with the key `ca`.

    Attributes:
        keys: Its versions, from 1 on.
        exportable: It could be copied out.
        kind: Its type.
        faults: Errors of single items by their place.
    """

    keys: list[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]
    exportable: bool = False
    kind: str = "ecdsa-p256"
    faults: dict[int, str] = field(default_factory=dict)

    def mount(self, bao: FakeOpenBao) -> None:
        """Put it into a server."""
        bao.handlers |= {
            "transit/keys/ca": self._read,
            "transit/sign/ca/sha2-256": lambda body: self._sign(body, hashes.SHA256()),
            "transit/sign/ca/sha2-384": lambda body: self._sign(body, hashes.SHA384()),
        }

    def _read(self, _: Data) -> Data:
        versions = {
            str(number): {
                "public_key": key.public_key()
                .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                .decode()
            }
            for number, key in enumerate(self.keys, start=1)
        }
        return {
            "type": self.kind,
            "exportable": self.exportable,
            "allow_plaintext_backup": False,
            "keys": versions,
        }

    def _sign(self, body: Data, digest: hashes.HashAlgorithm) -> Data:
        version = body["key_version"]
        key = self.keys[version - 1]
        results = []
        for place, item in enumerate(body["batch_input"]):
            if place in self.faults:
                results.append({"error": self.faults[place]})
                continue
            signature = _signature(key, b64decode(item["input"]), digest, body)
            text = f"vault:v{version}:{b64encode(signature).decode()}"
            results.append({"signature": text, "key_version": version})
        return {"batch_results": results}


def _signature(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    message: bytes,
    digest: hashes.HashAlgorithm,
    body: Data,
) -> bytes:
    hashed = utils.Prehashed(digest)
    assert body["prehashed"] is True
    if isinstance(key, rsa.RSAPrivateKey):
        assert body["signature_algorithm"] == "pkcs1v15"
        return key.sign(message, padding.PKCS1v15(), hashed)
    assert body["marshaling_algorithm"] == "asn1"
    return key.sign(message, ec.ECDSA(hashed))
