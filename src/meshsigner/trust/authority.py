"""Whether one certificate can be a CA of the mesh at a time.

Pure checks of a single certificate: each yields sentences, none raises. How
certificates hang together is `path`'s matter.

Source: RFC 5280 4.1.2 and 4.2.1; docs/standards.md 8, 10, 33.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.trust.pem import MIN_RSA_BITS, describe

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_LEAF_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
_WEAK_HASHES = frozenset({"md5", "sha1"})
_SLOW_RSA_BITS = 3_072  # from here a signature takes longer than all else together


def extension_of(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return an extension's value, or None where the certificate has none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate names itself as its issuer (self-issued, RFC 5280 6.1)."""
    return certificate.issuer == certificate.subject


def authority_faults(
    certificate: x509.Certificate,
    *,
    below: int,
    now: datetime,
) -> Iterator[str]:
    """Say what keeps a certificate from signing for the mesh now.

    Args:
        certificate: A CA above the leaves.
        below: How many other CAs stand between it and the leaves.
        now: Time at which it must be valid.
    """
    yield from serial_faults(certificate)
    yield from validity_faults(certificate, now)
    yield from ca_faults(certificate, below=below)
    yield from _usage_faults(certificate)
    yield from _strength_faults(certificate)
    for extension in certificate.extensions:
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            yield (
                f"{describe(certificate)} has the critical extension "
                f"{extension.oid.dotted_string}, which clients refuse; expected none; issue it "
                "again without"
            )


def serial_faults(certificate: x509.Certificate) -> Iterator[str]:
    """Check the serial number (RFC 5280 4.1.2.2); ztunnel's parser refuses others."""
    if certificate.serial_number <= 0:
        yield (
            f"{describe(certificate)} has serial number {certificate.serial_number}; expected a "
            "positive one, which all clients parse; issue it again"
        )


def validity_faults(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    """Check that a certificate is valid at a time."""
    if now > certificate.not_valid_after_utc:
        yield (
            f"{describe(certificate)} expired at {_utc(certificate.not_valid_after_utc)}; expected "
            f"one that is valid at {_utc(now)}; renew it"
        )
    if now < certificate.not_valid_before_utc:
        yield (
            f"{describe(certificate)} is not valid before "
            f"{_utc(certificate.not_valid_before_utc)}; expected one that is valid at "
            f"{_utc(now)}; wait, or set this machine's clock"
        )


def ca_faults(certificate: x509.Certificate, *, below: int) -> Iterator[str]:
    """Check basicConstraints (RFC 5280 4.2.1.9).

    Args:
        certificate: A CA.
        below: How many other CAs stand between it and the leaves.
    """
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield (
            f"{describe(certificate)} is not a CA certificate; expected basicConstraints CA:TRUE; "
            "issue it again as a CA, or use the right certificate"
        )
    elif constraints.path_length is not None and constraints.path_length < below:
        yield (
            f"{describe(certificate)} has path length {constraints.path_length}; expected at least "
            f"{below}, for the CAs below it; issue it again, or sign with a CA nearer to it"
        )


def _usage_faults(certificate: x509.Certificate) -> Iterator[str]:
    usage = extension_of(certificate, x509.KeyUsage)
    # A trust anchor is trusted for its key: what openssl makes by default has no keyUsage.
    missing = not is_self_signed(certificate) if usage is None else not usage.key_cert_sign
    if missing:
        yield (
            f"{describe(certificate)} may not sign certificates; expected keyUsage keyCertSign; "
            "issue it again with it"
        )
    extended = extension_of(certificate, x509.ExtendedKeyUsage)
    allowed = set(extended or ())
    any_usage = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in allowed
    if extended is not None and not any_usage and not allowed.issuperset(_LEAF_USAGES):
        yield (
            f"{describe(certificate)} restricts extendedKeyUsage, so that its leaves fail as "
            "server or client; expected none, or serverAuth and clientAuth; issue it again"
        )


def _strength_faults(certificate: x509.Certificate) -> Iterator[str]:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        yield (
            f"{describe(certificate)} has an RSA key of {key.key_size} bits; expected at least "
            f"{MIN_RSA_BITS}; make a new CA"
        )
    digest = certificate.signature_hash_algorithm
    # Nobody checks how a root signed itself.
    if digest is not None and digest.name in _WEAK_HASHES and not is_self_signed(certificate):
        yield (
            f"{describe(certificate)} is signed with {digest.name}; expected SHA-256 or better; "
            "issue it again"
        )


def issuer_remarks(certificate: x509.Certificate) -> Iterator[str]:
    """Say what works, but less well than it could, of the certificate that signs leaves."""
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None or not usage.crl_sign:
        yield (
            f"{describe(certificate)} may not sign CRLs (no cRLSign): workload certificates cannot "
            "be revoked under it"
        )
    if extension_of(certificate, x509.SubjectKeyIdentifier) is None:
        yield (
            f"{describe(certificate)} has no subject key identifier: workload certificates carry "
            "no authority key identifier"
        )
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _SLOW_RSA_BITS:
        yield f"{describe(certificate)} has an RSA key of {key.key_size} bits: signing is slow"


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
