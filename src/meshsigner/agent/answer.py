"""Checks what a CA answered before anybody uses it.

istio-agent looks at next to nothing and ztunnel at little, so that a wrong
certificate reaches Envoy, or takes the place of a good one. Here it does not:
key, identity, usages, validity, and a path that ends in one of the roots that
came along. Every difference is named. The path above the leaf is judged by
`verify`; how the certificate was asked for is `ca_client`'s matter.

Source: docs/standards.md 3 to 8, 26, 27, 67; RFC 5280 6.1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from meshsigner.errors import UNREADABLE_X509, WrongCertificate
from meshsigner.model import Issuer, TrustBundle
from meshsigner.verify import check_issuer

MIN_ELEMENTS = 2  # a leaf and the roots

_BOTH_SIDES = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


class WrongAnswer(Exception):
    """An answer is not what was asked for.

    Attributes:
        differences: Each in words.
    """

    def __init__(self, *differences: str) -> None:
        super().__init__("; ".join(differences))
        self.differences = differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that was read.

    Attributes:
        leaf: The workload's certificate.
        intermediates: From its issuer towards the root.
        roots: The trust anchors.
    """

    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]


def read_answer(chain: Sequence[str]) -> Answer:
    """Read the elements of `cert_chain`.

    Args:
        chain: Leaf first, the roots in the last.

    Raises:
        WrongAnswer: Too few of them, or one that is no certificate.
    """
    if len(chain) < MIN_ELEMENTS:
        raise WrongAnswer(f"{len(chain)} elements, expected the certificate and at least its roots")
    # Some CAs send several certificates in one element; each counts.
    leaf, *intermediates = (certificate for element in chain[:-1] for certificate in _load(element))
    return Answer(leaf=leaf, intermediates=tuple(intermediates), roots=tuple(_load(chain[-1])))


def check_answer(
    chain: Sequence[str], public_key: CertificatePublicKeyTypes, identity: str, now: datetime
) -> Answer:
    """Check an answer against what was asked.

    Args:
        chain: Elements of `cert_chain`.
        public_key: The key in the CSR.
        identity: The SPIFFE ID in the CSR.
        now: Time at which everything must be valid.

    Returns:
        The answer, read.

    Raises:
        WrongAnswer: It is anything else; every difference is in the error.
    """
    answer = read_answer(chain)
    try:
        differences = [
            *_leaf_differences(answer.leaf, public_key, identity, now),
            *_path_differences(answer, now),
        ]
    except UNREADABLE_X509 as cause:
        raise WrongAnswer("not a readable certificate") from cause
    if differences:
        raise WrongAnswer(*differences)
    return answer


def identities_of(certificate: x509.Certificate) -> list[str]:
    """List the URI names of a certificate."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return san.value.get_values_for_type(x509.UniformResourceIdentifier)


def render_name(certificate: x509.Certificate) -> str:
    """Name a certificate: its identity, else its subject."""
    return ", ".join(identities_of(certificate)) or certificate.subject.rfc4514_string()


def _load(element: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(element.encode())
    except UNREADABLE_X509 as error:
        raise WrongAnswer("an element is no PEM certificate") from error


def _leaf_differences(
    leaf: x509.Certificate, key: CertificatePublicKeyTypes, identity: str, now: datetime
) -> Iterator[str]:
    if leaf.public_key() != key:
        yield "the certificate is for another key"
    if identities_of(leaf) != [identity]:
        yield f"the certificate names {identities_of(leaf)}, asked was {identity}"
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        yield f"the certificate is not valid now, {now:%Y-%m-%d %H:%M:%S}Z"
    yield from _usage_differences(leaf)


def _usage_differences(leaf: x509.Certificate) -> Iterator[str]:
    """Name what keeps a certificate from both sides of TLS; what is not said is allowed."""
    values = {extension.oid: extension.value for extension in leaf.extensions}
    constraints = values.get(ExtensionOID.BASIC_CONSTRAINTS)
    if constraints is not None and constraints.ca:
        yield "the certificate is a CA's"
    usage = values.get(ExtensionOID.KEY_USAGE)
    if usage is not None and not usage.digital_signature:
        yield "the certificate is not for signatures, so not for TLS"
    purposes = values.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if purposes is not None and not set(purposes) >= _BOTH_SIDES:
        yield "the certificate is not for both sides of a connection"


def _path_differences(answer: Answer, now: datetime) -> Iterator[str]:
    """Name what breaks the path from the leaf to a root; other roots may be what they are."""
    top = (answer.leaf, *answer.intermediates)[-1]
    root = next((root for root in answer.roots if top == root or _issued_by(top, root)), None)
    if root is None:
        yield "the chain does not end in a root of the last element"
        return
    issuer = (*answer.intermediates, root)[0]
    if not _issued_by(answer.leaf, issuer):
        yield f"the certificate is not issued by {render_name(issuer)}"
    try:
        check_issuer(_as_issuer(issuer, answer.intermediates, root), now)
    except WrongCertificate as wrong:
        yield from wrong.mismatches


def _as_issuer(
    issuer: x509.Certificate, intermediates: tuple[x509.Certificate, ...], root: x509.Certificate
) -> Issuer:
    bundle = TrustBundle(certificates=(root,), pem="")
    return Issuer(
        certificate=issuer,
        intermediates=intermediates,
        trust_bundle=bundle,
        chain_pem=(),
        generation=0,
    )


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
