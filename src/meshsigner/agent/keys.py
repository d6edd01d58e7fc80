"""A workload's private key and the CSR for it, as istio-agent makes them.

Decides nothing about who may have what, and writes nothing to disk.

Source: istio security/pkg/nodeagent/cache/secretcache.go generateNewSecret,
security/pkg/pki/util/generate_csr.go.
"""

from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class KeyType(StrEnum):
    """Kinds of keys that istio-agent can make."""

    RSA2048 = "rsa2048"
    P256 = "p256"
    P384 = "p384"


def make_key(kind: KeyType) -> PrivateKey:
    """Make a fresh private key; RSA takes a noticeable part of a second."""
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
