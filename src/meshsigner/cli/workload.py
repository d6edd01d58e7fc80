"""A workload's side of issuance: key, CSR, and the files it keeps, as istio-agent makes them.

Decides nothing about who may have what; the call itself is in `rpc.client`.

Source: istio security/pkg/nodeagent/cache/secretcache.go generateNewSecret,
security/pkg/pki/util/generate_csr.go.
"""

from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, write_file

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class KeyType(StrEnum):
    """Kinds of keys that istio-agent can make."""

    RSA2048 = "rsa2048"
    P256 = "p256"
    P384 = "p384"


def make_key(kind: KeyType) -> PrivateKey:
    """Make a fresh private key."""
    if kind is KeyType.RSA2048:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1() if kind is KeyType.P256 else ec.SECP384R1())


def build_csr(key: PrivateKey, spiffe_id: str) -> bytes:
    """Build the CSR that istio-agent sends: an empty organization, one critical URI SAN.

    Args:
        key: Signs the request.
        spiffe_id: Becomes the URI.

    Returns:
        The request, PEM.
    """
    # Go writes an empty text as PrintableString, cryptography would as UTF8String.
    empty = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "", _ASN1Type.PrintableString)
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    digest = (
        hashes.SHA384()
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384  # noqa: PLR2004 - P-384, RFC 5758 3.2 as Go pairs them
        else hashes.SHA256()
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([empty]))
    request = builder.add_extension(san, critical=True).sign(key, digest)
    return request.public_bytes(serialization.Encoding.PEM)


def render_key(key: PrivateKey) -> bytes:
    """Write a private key as PEM in the form istio-agent writes (PKCS #1, SEC 1)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def write_secret(directory: Path, key_pem: bytes, chain: tuple[str, ...]) -> tuple[Path, ...]:
    """Write key.pem (mode 0600), cert-chain.pem and root-cert.pem, as OUTPUT_CERTS does.

    Args:
        directory: Made if it is missing.
        key_pem: The private key.
        chain: Elements of the answer.

    Returns:
        The files.

    Raises:
        OSError: One cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = (
        ("key.pem", key_pem, PRIVATE_MODE),
        ("cert-chain.pem", "".join(chain).encode(), PUBLIC_MODE),
        ("root-cert.pem", chain[-1].encode(), PUBLIC_MODE),
    )
    for name, data, mode in files:
        write_file(directory / name, data, mode=mode)
    return tuple(directory / name for name, _, _ in files)
