"""Checks and describes what a CA answered, from the caller's side.

istio-agent checks next to nothing and ztunnel little, so the operator's client
looks closer: own key, own identity, and a chain that really ends in the roots
that came with it.

Source: docs/standards.md 3 to 8.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from meshsigner.config.fields import render_duration

_TIME = "%Y-%m-%d %H:%M:%S"
_MIN_ELEMENTS = 2  # a leaf and the roots


class WrongAnswer(Exception):
    """An answer is not what was asked for; the text says in what."""


def check_answer(
    chain: Sequence[str], public_key: CertificatePublicKeyTypes, identity: str
) -> None:
    """Check an answer against what was asked.

    Args:
        chain: Elements of `cert_chain`.
        public_key: The key in the CSR.
        identity: The SPIFFE ID in the CSR.

    Raises:
        WrongAnswer: It has too few elements, another key or identity, or its
            chain does not end in its roots or is not valid now.
    """
    if len(chain) < _MIN_ELEMENTS:
        raise WrongAnswer(f"{len(chain)} elements, expected the certificate and at least its roots")
    path = [_load(element)[0] for element in chain[:-1]]
    if path[0].public_key() != public_key:
        raise WrongAnswer("the certificate is for another key")
    if identities_of(path[0]) != [identity]:
        raise WrongAnswer(f"the certificate names {identities_of(path[0])}, asked was {identity}")
    _check_validity(path)
    _check_path(path, _load(chain[-1]))


def _check_validity(path: Sequence[x509.Certificate]) -> None:
    now = datetime.now(UTC)
    for certificate in path:
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise WrongAnswer(f"{render_name(certificate)} is not valid now")


def _check_path(path: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> None:
    for certificate, issuer in pairwise(path):
        if not _issued_by(certificate, issuer):
            raise WrongAnswer(f"{render_name(certificate)} is not issued by the next element")
    if not any(_issued_by(path[-1], root) for root in roots):
        raise WrongAnswer("the chain does not end in a root of the last element")


def _load(element: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(element.encode())
    except ValueError as error:
        raise WrongAnswer("an element is no PEM certificate") from error


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


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


def describe_answer(chain: Sequence[str], call_s: float) -> Iterator[tuple[str, str]]:
    """Put a checked answer into words.

    Args:
        chain: Elements of `cert_chain`.
        call_s: How long the call took, seconds.
    """
    leaf, *intermediates = (_load(element)[0] for element in chain[:-1])
    roots = _load(chain[-1])
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    yield "identity", ", ".join(identities_of(leaf))
    yield "issuer", leaf.issuer.rfc4514_string()
    yield (
        "valid",
        f"{start:{_TIME}} to {end:{_TIME}} UTC ({render_duration(end - start)})",
    )
    yield "serial", f"{leaf.serial_number:x}"
    yield "key", _render_key(leaf.public_key())
    for number, certificate in enumerate([leaf, *intermediates, *roots]):
        arrow = "" if number == 0 else "<- "
        yield "chain" if number == 0 else "", arrow + render_name(certificate)
    yield "took", f"{call_s * 1000:.1f} ms, connection included"


def _render_key(key: CertificatePublicKeyTypes) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def answer_as_json(chain: Sequence[str], call_s: float) -> dict[str, object]:
    """Return what is known of a checked answer, for programs.

    Args:
        chain: Elements of `cert_chain`.
        call_s: How long the call took, seconds.
    """
    leaf = _load(chain[0])[0]
    return {
        "identity": identities_of(leaf)[0],
        "issuer": leaf.issuer.rfc4514_string(),
        "not_before": leaf.not_valid_before_utc.isoformat(),
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "serial": f"{leaf.serial_number:x}",
        "chain": [render_name(c) for element in chain for c in _load(element)],
        "call_ms": round(call_s * 1000, 1),
    }


def serial_of(chain: Sequence[str]) -> str:
    """Return the leaf's serial number as the inventory writes it: lower-case hex.

    Args:
        chain: Elements of a checked `cert_chain`.
    """
    return f"{_load(chain[0])[0].serial_number:x}"
