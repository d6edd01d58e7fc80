"""Whether a certificate chain proves a workload of our mesh.

Decides by itself what TLS has decided too, for a listener's roots may lag behind
ours and a proxy's verdict is hearsay: a path to our own roots at this moment,
and a leaf that is one of our kind. Whose key it is was proven by the handshake
of whoever brings it; who may use it is decided in `mtls`.

Source: istio pkg/spiffe/spiffe.go VerifyPeerCert; SPIFFE X509-SVID 2 to 5; RFC
5280 6.1.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from meshsigner.errors import UNREADABLE_X509, Unauthenticated
from meshsigner.model import Issuer
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId

MAX_CERTIFICATES = 8  # istiod's chains have two to four
MAX_CHAIN_BYTES = 64 * 1024
_BEGIN = b"-----BEGIN CERTIFICATE-----"

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """A leaf that holds in every check.

    Attributes:
        spiffe_id: Its one URI.
        serial: Its serial number, lower-case hex without leading zeros.
        sha256: Digest of its DER, lower-case hex.
    """

    spiffe_id: SpiffeId
    serial: str
    sha256: str


def parse_chain(pem: bytes) -> list[x509.Certificate]:
    """Read a chain, leaf first; what stands twice is kept once.

    Raises:
        Unauthenticated: Not one to eight readable certificates within 64 KiB.
    """
    if len(pem) > MAX_CHAIN_BYTES or not 1 <= pem.count(_BEGIN) <= MAX_CERTIFICATES:
        raise Unauthenticated("not one to eight certificates within 64 KiB")
    try:
        return list(dict.fromkeys(x509.load_pem_x509_certificates(pem)))
    except UNREADABLE_X509:
        raise Unauthenticated("a client certificate that cannot be read") from None


def check_chain(pem: bytes, issuer: Issuer, now: datetime) -> ClientCertificate:
    """Check what somebody shows as the chain of its certificate.

    Args:
        pem: Leaf first; intermediates that we have ourselves may be missing.
        issuer: What signs now: its roots are trusted, its intermediates known.
        now: Time at which all of the path must be valid.

    Raises:
        Unauthenticated: No path to our roots, or a leaf that no workload of ours
            would have.
    """
    leaf, *others = parse_chain(pem)
    _check_path(leaf, others, issuer, now)
    try:
        _check_usages(leaf)
        spiffe_id = _only_uri(leaf)
    except UNREADABLE_X509 as error:
        raise Unauthenticated("a client certificate with an unreadable extension") from error
    return ClientCertificate(
        spiffe_id=spiffe_id,
        serial=f"{leaf.serial_number:x}",
        sha256=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def _check_path(
    leaf: x509.Certificate, others: list[x509.Certificate], issuer: Issuer, now: datetime
) -> None:
    verifier = (
        PolicyBuilder()
        .store(Store(list(issuer.trust_bundle.certificates)))
        .time(now.astimezone(UTC).replace(tzinfo=None))
        .extension_policies(ca_policy=_CA_POLICY, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, [*others, *issuer.intermediates])
    except (VerificationError, *UNREADABLE_X509) as error:
        # the library's text quotes names of the stranger's certificate
        cause = str(error).partition("(encountered")[0].strip()
        raise Unauthenticated(f"no path from the certificate to our roots: {cause[:200]}") from None


def _check_usages(leaf: x509.Certificate) -> None:
    """Refuse a CA, and a leaf that is not for clients.

    Source: SPIFFE X509-SVID 4.1, 4.3 and 4.4 (leaf); RFC 5280 4.2.1.12.
    """
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise Unauthenticated("a CA certificate proves no workload")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise Unauthenticated("the certificate's key usage is not a workload's")
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    if extended is None or ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        raise Unauthenticated("the certificate is not for client authentication")


def _only_uri(leaf: x509.Certificate) -> SpiffeId:
    names = _extension(leaf, x509.SubjectAlternativeName)
    uris = [] if names is None else names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Unauthenticated(f"a certificate with {len(uris)} URIs; one is an identity")
    try:
        return SpiffeId.parse(uris[0])
    except InvalidSpiffeId:
        raise Unauthenticated("the certificate's URI is no SPIFFE ID") from None


def _extension(leaf: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return leaf.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _is_authority(_: Policy, __: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        msg = "not a CA"
        raise ValueError(msg)


def _may_sign(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        msg = "may not sign certificates"
        raise ValueError(msg)


def _may_vouch(_: Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if usage is not None and allowed.isdisjoint(usage):
        msg = "may not vouch for clients"
        raise ValueError(msg)


# The Web PKI's own rules would refuse meshes' CAs: Istio's have no cRLSign, others no key id.
_CA_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_vouch)
)
