"""Whether every certificate is its own caller's: compared after the run, one by one.

Pure. It looks at what clients received and at nothing else: grpc-status, not HTTP
status; the leaf's key and SAN against the call's own; serials against each other.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from benchmarks.load.calls import NO_ANSWER, Outcome
from benchmarks.load.headers import OK, status_name
from benchmarks.load.messages import decode_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a run's answers are worth.

    Args:
        statuses: How often each status came, by name.
        messages: The refusals' texts, with how often each came.
        wrong: What is wrong with answers that claim to be fine, one text each.
        right: How many certificates are exactly what was asked for.
    """

    statuses: dict[str, int]
    messages: dict[str, int]
    wrong: tuple[str, ...]
    right: int

    @property
    def clean(self) -> bool:
        """Whether every single call got its own certificate."""
        return not self.wrong and set(self.statuses) <= {status_name(OK)}


def audit(outcomes: Sequence[Outcome], *, certificates: bool = True) -> Audit:
    """Judge a run.

    Args:
        outcomes: Every call of the run.
        certificates: False for the empty server, whose answers are no certificates.
    """
    granted = [outcome for outcome in outcomes if outcome.answer.status == OK]
    faults = _faults(granted) if certificates else []
    refused = [outcome.answer.message for outcome in outcomes if outcome.answer.status != OK]
    return Audit(
        statuses=dict(Counter(_name(outcome.answer.status) for outcome in outcomes)),
        messages=dict(Counter(refused)),
        wrong=tuple(faults),
        right=len(granted) - len(faults) if certificates else 0,
    )


def _name(status: int) -> str:
    return "NO_ANSWER" if status == NO_ANSWER else status_name(status)


def _faults(granted: Sequence[Outcome]) -> list[str]:
    serials: set[int] = set()
    faults = []
    for outcome in granted:
        fault = _fault(outcome, serials)
        if fault:
            faults.append(f"{outcome.call.uri_san}: {fault}")
    return faults


def _fault(outcome: Outcome, serials: set[int]) -> str:
    try:
        leaf = x509.load_pem_x509_certificate(decode_chain(outcome.answer.body)[0].encode())
    except (ValueError, IndexError) as error:
        return f"not a certificate chain ({error})"
    if _public_key_der(leaf) != outcome.call.public_key_der:
        return "another's public key"
    if _uri_sans(leaf) != [outcome.call.uri_san]:
        return f"another's identity {_uri_sans(leaf)}"
    if leaf.serial_number in serials:
        return f"serial {leaf.serial_number:x} given out twice"
    serials.add(leaf.serial_number)
    return ""


def _public_key_der(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _uri_sans(leaf: x509.Certificate) -> list[str]:
    """Return all names, so that an extra DNS name counts as another identity too."""
    try:
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in sans]
