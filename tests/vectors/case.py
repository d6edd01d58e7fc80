"""One test request: what it is, what becomes of it, and who says so."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What must become of a request, for the caller named in it."""

    ACCEPTED = "accepted"
    INVALID_CSR = "invalid_csr"
    SAN_NOT_ALLOWED = "san_not_allowed"


class Possession(StrEnum):
    """What a second implementation says of the request's own signature."""

    PROVEN = "proven"
    NOT_PROVEN = "not_proven"
    UNJUDGED = "unjudged"  # implementations differ in what they read at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request with its expected verdict.

    Attributes:
        name: Stem of the file and of the test.
        csr: The bytes as a client would send them.
        verdict: What must become of it under the default policy.
        reason: Why, in one sentence.
        source: The rule behind it.
        possession: Whether the signature is good, for the second opinion.
    """

    name: str
    csr: bytes
    verdict: Verdict
    reason: str
    source: str
    possession: Possession
