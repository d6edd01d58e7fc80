"""Makes CA and serving certificates, with cryptography's builder.

Decides their profiles: what a root, an intermediate and a serving certificate
look like. Workload certificates are `profile`'s matter; where keys and files
are kept is that of the callers.

Source: RFC 5280 4.2.1; docs/standards.md 33, 47.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshsigner.spiffe import TrustDomain
from meshsigner.trust.authority import extension_of
from meshsigner.trust.pem import PrivateKey

# Of CAs and serving certificates: more than any leaf's backdating (at most 1 h).
CA_BACKDATE = timedelta(hours=1)
SERVING_BACKDATE = timedelta(minutes=2)  # istiod's ClockSkewGracePeriod
CaPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_MAX_ORGANIZATION = 64  # characters, RFC 5280 appendix A.1 ub-organization-name


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def render_key(key: PrivateKey) -> bytes:
    """Write a key as PKCS #8 PEM, not encrypted: its file's mode is its guard."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def render_certificate(certificate: x509.Certificate) -> bytes:
    """Write a certificate as PEM, with one newline at the end."""
    return certificate.public_bytes(Encoding.PEM)


def build_root(
    key: PrivateKey,
    *,
    trust_domain: TrustDomain,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Make a self-signed root that allows one CA below it.

    Args:
        key: The root's key.
        trust_domain: Becomes the organization, as in istiod's own root.
        now: The time.
        lifetime: From now on.
    """
    name = ca_name(trust_domain, "root", key.public_key())
    builder = _ca_builder(name, name, key, path_length=1)
    return _sign(builder, key, (now - CA_BACKDATE, now + lifetime))


def build_intermediate(
    key: PrivateKey,
    *,
    root: x509.Certificate,
    root_key: PrivateKey,
    trust_domain: TrustDomain,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """Make a CA for workload certificates, below a root.

    Args:
        key: The new CA's key.
        root: Its issuer.
        root_key: The root's key.
        trust_domain: Becomes the organization.
        now: The time.
        lifetime: From now on; cut at the root's end.
    """
    name = ca_name(trust_domain, "intermediate", key.public_key())
    builder = _name_issuer_key(_ca_builder(name, root.subject, key, path_length=0), root)
    end = min(now + lifetime, root.not_valid_after_utc)
    return _sign(builder, root_key, (now - CA_BACKDATE, end))


def ca_name(trust_domain: TrustDomain, role: str, public_key: CaPublicKey) -> x509.Name:
    """Name a CA so that two of one mesh never share a name: clients find issuers by it.

    Args:
        trust_domain: Becomes the organization.
        role: `root` or `intermediate`.
        public_key: The CA's; a part of its identifier becomes part of the name.
    """
    key_id = x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()[:8]
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain.name[:_MAX_ORGANIZATION]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"meshsigner {role} {key_id}"),
        ],
    )


def _ca_builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PrivateKey,
    *,
    path_length: int,
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
    )
    for extension, critical in ca_extensions(key.public_key(), path_length=path_length):
        builder = builder.add_extension(extension, critical=critical)
    return builder


def ca_extensions(
    public_key: CaPublicKey, *, path_length: int
) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """Return what makes a certificate a CA's, each with whether it is critical.

    Args:
        public_key: The CA's.
        path_length: How many CAs may stand below it.
    """
    return (
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        # cRLSign from the start: revocation must not need a new root.
        (_usage(ca=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _name_issuer_key(
    builder: x509.CertificateBuilder,
    issuer: x509.Certificate,
) -> x509.CertificateBuilder:
    """Add the authority key identifier, unless the issuer has no identifier to name."""
    key_id = extension_of(issuer, x509.SubjectKeyIdentifier)
    if key_id is None:
        return builder
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
    return builder.add_extension(authority, critical=False)


def _sign(
    builder: x509.CertificateBuilder,
    key: PrivateKey,
    validity: tuple[datetime, datetime],
) -> x509.Certificate:
    is_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)
    not_before, not_after = validity
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .sign(key, hashes.SHA384() if is_p384 else hashes.SHA256())
    )


def build_serving(
    public_key: ec.EllipticCurvePublicKey,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    names: Sequence[str | IPv4Address | IPv6Address],
    validity: tuple[datetime, datetime],
) -> x509.Certificate:
    """Make a certificate for a TLS server: serverAuth alone, no SPIFFE ID.

    Args:
        public_key: The server's.
        issuer: The CA.
        issuer_key: The CA's key.
        names: What clients dial: DNS names and addresses; not empty.
        validity: First and last second.
    """
    alternatives = [
        x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name) for name in names
    ]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Critical because the subject is empty (RFC 5280 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=True)
    )
    return _sign(_name_issuer_key(builder, issuer), issuer_key, validity)
