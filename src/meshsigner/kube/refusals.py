"""What an API server's no means, by its status; whoever asked decides what follows from it.

A no is a kind of `BackendUnavailable`: whatever an API server refuses to us is
never the fault of a caller of ours.

Source: Kubernetes apimachinery/pkg/api/errors (status to reason).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from meshsigner.errors import BackendUnavailable

MAX_PAUSE_S = 30.0
MAX_MESSAGE = 300

_THROTTLED = 429
_HINTS = {
    401: "our own credential was refused",
    403: "our own account may not do this; for token reviews bind it to system:auth-delegator",
    404: "there is no such object, or the API server does not serve its kind",
    409: "it was changed meanwhile, or is there already",
    410: "that version of the collection is not remembered any more",
    429: "it asked us to wait",
}
# Their messages name objects and rules; those of 400 and 422 may quote what we sent.
_QUOTED = frozenset({403, 404, 409, 410})


class ApiRefused(BackendUnavailable):
    """The API server answered, and the answer is no.

    Args:
        detail: What was asked and why it was refused, for the log.
        status: HTTP status.
        reason: Kubernetes' word for it, such as `AlreadyExists`; may be empty.
        retry_after_s: When it says how long to leave it alone, seconds.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason_word = reason
        self.retry_after_s = retry_after_s


class NotAllowed(ApiRefused):
    """403: RBAC gives our account no right to this."""


class NotFound(ApiRefused):
    """404: no such object, or a kind that is not served."""


class Conflict(ApiRefused):
    """409: an object of the name is there already, or it is not as old as we thought."""


class Gone(ApiRefused):
    """410: what we remember of a collection is too old; it must be listed again."""


class Throttled(ApiRefused):
    """429: too much at once for the API server."""


_KINDS: Mapping[int, type[ApiRefused]] = {
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: Throttled,
}


def refusal(asked: str, status: int, body: bytes = b"", retry_after: str = "") -> ApiRefused:
    """Make the error for an answer.

    Args:
        asked: Server, method and path.
        status: HTTP status.
        body: What came with it, a Status object as a rule.
        retry_after: The header of this name.
    """
    document = _status_object(body)
    message = document.get("message") if status in _QUOTED else None
    detail = f"{asked}: status {status}"
    for more in (_HINTS.get(status), message):
        if isinstance(more, str) and more:
            detail += f", {more[:MAX_MESSAGE]}"
    reason = document.get("reason")
    return _KINDS.get(status, ApiRefused)(
        detail,
        status=status,
        reason=reason if isinstance(reason, str) else "",
        retry_after_s=pause_s(retry_after) if status == _THROTTLED or retry_after else None,
    )


def pause_s(retry_after: str) -> float:
    """Read Retry-After in seconds, at most 30; the API server sends no dates."""
    return min(float(retry_after), MAX_PAUSE_S) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 1.0


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
