"""A certification authority for tests: good, or broken in one named way.

`make_ca` makes roots and intermediates of any shape; `write_cacerts`,
`write_tls_secret` and `KubernetesMount` put them into a directory as an
operator, cert-manager or the kubelet would.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Ca:
    """A CA certificate with its key."""

    certificate: x509.Certificate
    key: CaKey

    @property
    def pem(self) -> bytes:
        """The certificate as a file holds it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
        """Return the key as a file holds it: PKCS #8, or PKCS #1 and SEC 1 (TraditionalOpenSSL)."""
        return self.key.private_bytes(Encoding.PEM, form, NoEncryption())


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is in a CA certificate; the defaults make a good one.

    Attributes:
        ca: basicConstraints CA, None leaves the extension out.
        path_length: Its path length.
        cert_sign: keyUsage keyCertSign, None leaves the extension out.
        crl_sign: keyUsage cRLSign.
        extended_usage: extendedKeyUsage, None leaves it out.
        key_id: True adds a subject key identifier.
        authority_key_id: Overrides the issuer's.
        not_before: First second.
        not_after: Last second.
        unknown_critical: Adds a critical extension that nobody knows.
    """

    ca: bool | None = True
    path_length: int | None = None
    cert_sign: bool | None = True
    crl_sign: bool = True
    extended_usage: tuple[x509.ObjectIdentifier, ...] | None = None
    key_id: bool = True
    authority_key_id: bytes | None = None
    not_before: datetime = NOW - timedelta(days=1)
    not_after: datetime = NOW + timedelta(days=365)
    unknown_critical: bool = False


GOOD = Shape()


@cache
def make_key(kind: str, number: int = 0) -> CaKey:
    """Return a key of a kind: `p256`, `p384`, `p521`, `rsa1024` and so on, made once.

    Args:
        kind: Which.
        number: Tells keys of one kind apart.
    """
    del number
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    if kind in curves:
        return ec.generate_private_key(curves[kind])
    size = int(kind.removeprefix("rsa"))
    return rsa.generate_private_key(public_exponent=65_537, key_size=size)


def make_ca(
    name: str,
    *,
    issuer: Ca | None = None,
    key: CaKey | None = None,
    shape: Shape = GOOD,
) -> Ca:
    """Make a CA.

    Args:
        name: Its common name.
        issuer: Who signs it; None makes a root.
        key: Its key, P-256 by default.
        shape: What is in it.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(shape.not_before)
        .not_valid_after(shape.not_after)
        .public_key(key.public_key())
    )
    for extension, critical in _extensions(shape, key, issuer):
        builder = builder.add_extension(extension, critical=critical)
    signer = issuer.key if issuer else key
    return Ca(certificate=builder.sign(signer, hashes.SHA256()), key=key)


def _extensions(
    shape: Shape,
    key: CaKey,
    issuer: Ca | None,
) -> list[tuple[x509.ExtensionType, bool]]:
    found: list[tuple[x509.ExtensionType, bool]] = []
    if shape.ca is not None:
        path_length = shape.path_length if shape.ca else None
        found.append((x509.BasicConstraints(ca=shape.ca, path_length=path_length), True))
    if shape.cert_sign is not None:
        found.append((_key_usage(cert_sign=shape.cert_sign, crl_sign=shape.crl_sign), True))
    if shape.extended_usage is not None:
        found.append((x509.ExtendedKeyUsage(shape.extended_usage), False))
    if shape.key_id:
        found.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if shape.authority_key_id is not None:
        found.append((x509.AuthorityKeyIdentifier(shape.authority_key_id, None, None), False))
    elif issuer is not None:
        public_key = issuer.key.public_key()
        found.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key), False))
    if shape.unknown_critical:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")
        found.append((x509.UnrecognizedExtension(oid, b"\x05\x00"), True))
    return found


def _key_usage(*, cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")


def with_serial(ca: Ca, first_octet: int) -> Ca:
    """Make the same P-256 root with a serial number that no builder would write.

    Args:
        ca: A root.
        first_octet: Of the serial number; from 0x80 on it is negative.
    """
    tbs = bytearray(_content(ca.certificate.tbs_certificate_bytes))
    serial = 5  # behind the version, [0] { INTEGER 2 }
    assert tbs[serial] == 0x02
    tbs[serial + 2] = first_octet
    return _signed_again(ca, bytes(tbs), ca, _ECDSA_SHA256, hashes.SHA256())


def with_sha1(ca: Ca, issuer: Ca) -> Ca:
    """Make the same P-256 CA certificate, signed with SHA-1 by its P-256 issuer."""
    tbs = _content(ca.certificate.tbs_certificate_bytes).replace(_ECDSA_SHA256, _ECDSA_SHA1)
    return _signed_again(ca, tbs, issuer, _ECDSA_SHA1, hashes.SHA1())  # noqa: S303 - to be refused


def _content(der: bytes) -> bytes:
    return der[2 + (der[1] & 0x7F if der[1] & 0x80 else 0) :]


def _sequence(content: bytes) -> bytes:
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def _signed_again(
    ca: Ca,
    content: bytes,
    issuer: Ca,
    algorithm: bytes,
    digest: hashes.HashAlgorithm,
) -> Ca:
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    tbs = _sequence(content)
    signature = issuer.key.sign(tbs, ec.ECDSA(digest))
    bits = b"\x03" + bytes([len(signature) + 1, 0]) + signature
    der = _sequence(tbs + algorithm + bits)
    return Ca(certificate=x509.load_der_x509_certificate(der), key=ca.key)


def write_cacerts(
    directory: Path,
    issuer: Ca,
    *,
    chain: Sequence[Ca],
    roots: Sequence[Ca],
    key_form: PrivateFormat = PrivateFormat.PKCS8,
) -> Path:
    """Write Istio's own layout, key closed to others; returns the directory."""
    return write_files(directory, cacerts(issuer, chain=chain, roots=roots, key_form=key_form))


def cacerts(
    issuer: Ca,
    *,
    chain: Sequence[Ca],
    roots: Sequence[Ca],
    key_form: PrivateFormat = PrivateFormat.PKCS8,
) -> dict[str, bytes]:
    """Return the files of Istio's own layout."""
    return {
        "ca-cert.pem": issuer.pem,
        "ca-key.pem": issuer.key_pem(key_form),
        "cert-chain.pem": b"".join(ca.pem for ca in chain),
        "root-cert.pem": b"".join(ca.pem for ca in roots),
    }


def tls_secret(
    chain: Sequence[Ca],
    *,
    roots: Sequence[Ca],
    key_form: PrivateFormat = PrivateFormat.PKCS8,
) -> dict[str, bytes]:
    """Return the files of a `kubernetes.io/tls` secret, as cert-manager writes them."""
    return {
        "tls.crt": b"".join(ca.pem for ca in chain),
        "tls.key": chain[0].key_pem(key_form),
        "ca.crt": b"".join(ca.pem for ca in roots),
    }


def write_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write files one after the other, as an operator does; keys get mode 0600."""
    directory.mkdir(exist_ok=True)
    for name, data in files.items():
        path = directory / name
        path.write_bytes(data)
        path.chmod(0o600 if "key" in name else 0o644)
    return directory


class KubernetesMount:
    """A directory that is written as the kubelet writes a Secret mount.

    Args:
        directory: The mount point.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._count = 0

    def swap(self, files: Mapping[str, bytes]) -> Path:
        """Show new contents at once through `..data`, and remove the old."""
        self.directory.mkdir(exist_ok=True)
        data = self.directory / "..data"
        old = data.resolve() if data.is_symlink() else None
        self._count += 1
        fresh = self.directory / f"..2026_11_24_12_00_00.{self._count}"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
            (fresh / name).chmod(0o644)
        temporary = self.directory / "..data_tmp"
        temporary.symlink_to(fresh.name)
        os.replace(temporary, data)  # noqa: PTH105 - as the kubelet does, rename(2)
        for name in files:
            link = self.directory / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        if old is not None:
            shutil.rmtree(old)
        return self.directory


def is_signed_by(certificate: x509.Certificate, key: CaKey) -> bool:
    """Check a signature with nothing but the key, so that tests lean on no code of ours."""
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    digest = certificate.signature_hash_algorithm
    assert digest is not None
    if isinstance(key, rsa.RSAPrivateKey):
        key.public_key().verify(signature, signed, padding.PKCS1v15(), digest)
    else:
        key.public_key().verify(signature, signed, ec.ECDSA(digest))
    return True
