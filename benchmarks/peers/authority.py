"""What servers that are compared have in common: one CA, one serving certificate, one token issuer.

Makes the files and nothing else: a CA in the layout of Istio's secret `cacerts` (an
intermediate under a root), a serving certificate under it, and the public keys of an
issuer whose tokens the scenario mints. Both servers read the same files.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc.jwk import RSAKey

from benchmarks.load.keys import Key, KeyType, make_key
from benchmarks.load.tokens import TokenIssuer

NAME: Final = "localhost"
ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
TRUST_DOMAIN: Final = "cluster.local"

_KEY_ID: Final = "bench"
_LIFETIME: Final = timedelta(days=30)
_CLOCK_SKEW: Final = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Files for a server.

    Args:
        ca: Directory with ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem.
        serving_certificate: PEM, leaf first.
        serving_key: PEM.
    """

    ca: Path
    serving_certificate: Path
    serving_key: Path

    @property
    def roots(self) -> Path:
        """PEM file of the root, for clients."""
        return self.ca / "root-cert.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def make_authority(directory: Path, *, ca_key: KeyType, serving_key: KeyType) -> Authority:
    """Make a root, an intermediate that signs, and a serving certificate under it.

    Args:
        directory: Gets the files; made if it is not there.
        ca_key: Kind of the root's and the intermediate's keys.
        serving_key: Kind of the serving certificate's key.
    """
    directory.mkdir(parents=True, exist_ok=True)
    root = _certify(make_key(ca_key), "root", None, [_is_ca(1), _SIGNS])
    intermediate = _certify(make_key(ca_key), "intermediate", root, [_is_ca(0), _SIGNS])
    serving = _certify(make_key(serving_key), "", intermediate, _serving_extensions())
    _write(directory / "root-cert.pem", root.pem)
    _write(directory / "ca-cert.pem", intermediate.pem)
    _write(directory / "cert-chain.pem", intermediate.pem)
    _write(directory / "ca-key.pem", _key_pem(intermediate.key))
    certificate, key = directory / "serving.pem", directory / "serving-key.pem"
    _write(certificate, serving.pem + intermediate.pem)
    _write(key, _key_pem(serving.key))
    return Authority(ca=directory, serving_certificate=certificate, serving_key=key)


def make_token_issuer(jwks: Path) -> TokenIssuer:
    """Return a new RS256 issuer as Kubernetes has one, and write its public keys to `jwks`."""
    key = rsa.generate_private_key(65537, 2048)
    public = RSAKey.import_key(key.public_key()).as_dict(private=False)
    public |= {"kid": _KEY_ID, "alg": "RS256", "use": "sig"}
    _write(jwks, json.dumps({"keys": [public]}).encode())
    return TokenIssuer(key=key, key_id=_KEY_ID, issuer=ISSUER)


def _certify(
    key: Key, name: str, issuer: _Pair | None, extensions: list[tuple[x509.ExtensionType, bool]]
) -> _Pair:
    """Return a certificate for `key`, self-signed without an issuer."""
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, f"bench {name}".strip())])
    signer = issuer.key if issuer else key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )
    for extension, critical in [*extensions, *_key_identifiers(key, signer)]:
        builder = builder.add_extension(extension, critical=critical)
    return _Pair(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _key_identifiers(key: Key, signer: Key) -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]


def _is_ca(path_length: int) -> tuple[x509.ExtensionType, bool]:
    return x509.BasicConstraints(ca=True, path_length=path_length), True


def _usage(*, signs_certificates: bool) -> tuple[x509.ExtensionType, bool]:
    usage = x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_encipherment=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return usage, True


_SIGNS: Final = _usage(signs_certificates=True)


def _serving_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        _usage(signs_certificates=False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(NAME)]), False),
    ]


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
