"""Which texts of an API server mean that a token is bad.

An API server says a refusal and a fault of its own in the same field of a
token review. Only texts that are known to be refusals are believed to be; any
other text is a fault, for a caller who is told UNAUTHENTICATED gives up, and
one who is told UNAVAILABLE comes back.

One refusal is doubtful: for a token whose pod could not be looked up the
server says the same whether the pod is gone or its store is away.

Source: Kubernetes pkg/serviceaccount/claims.go and jwt.go (Validate,
AuthenticateToken), apiserver pkg/authentication/request/bearertoken; texts of
1.24 to 1.34.
"""

import re
from enum import Enum, auto

MAX_TEXT = 2_000  # longer than any refusal; two long lists of audiences fit

_NONE_TAKES_IT = "invalid bearer token"
_POD_NOT_FOUND = "service account token has been invalidated"
_QUOTED = r'"[^"\[\]]*"'
_KNOWN = (
    r"token audiences \[[^\[\]]*\] is invalid for the target audiences \[[^\[\]]*\]",
    rf"token issuer {_QUOTED} is invalid",
    r"service account token has expired",
    r"service account token is not valid yet",
    r"service account token is issued in the future",
    r"service account token claims could not be validated[^\[\]]*",
    r"(?:square/)?go-jose(?:/[\w-]+)*: error in cryptographic primitive",
    r"invalid signature, no keys found",
    rf"serviceaccounts {_QUOTED} not found",
    r"service account [a-z0-9.-]+/[a-z0-9.-]+ has been deleted",
    r"(?:service account|pod|node) UID \([\w-]*\) does not match[ a-z]* claim \([\w-]*\)",
)
_REASON = "|".join((*_KNOWN, re.escape(_POD_NOT_FOUND)))
# Several reasons are told as a list, each once.
_REFUSAL = re.compile(rf"{_NONE_TAKES_IT}|\[{_NONE_TAKES_IT}(?:, (?:{_REASON}))+\]")


class Meaning(Enum):
    """What a text says of the token."""

    REFUSED = auto()
    DOUBTFUL = auto()  # a refusal, if the server's store works
    UNKNOWN = auto()  # a fault, or a refusal that nobody has taught us


def meaning_of(error: str) -> Meaning:
    """Read the error of a token review.

    Args:
        error: `status.error`, not empty.
    """
    if len(error) > MAX_TEXT or not _REFUSAL.fullmatch(error):
        return Meaning.UNKNOWN
    return Meaning.DOUBTFUL if _POD_NOT_FOUND in error else Meaning.REFUSED
