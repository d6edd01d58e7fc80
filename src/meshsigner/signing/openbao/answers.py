"""What an answer of OpenBao means: one table from status and text to our errors.

Decides whether a fault is the service's, our login's, our configuration's or
the order's, and whether something may have been issued. Everything that would
meet every order alike is `BackendUnavailable`, so that another backend may be
tried; only what is wrong with one order is `BackendRefused`.

Source: OpenBao API documentation, HTTP status codes; each row was observed on
OpenBao 2.7.2 and is a test in tests/conformance/openbao.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshsigner.errors import BackendRefused, BackendUnavailable, MeshsignerError, Overloaded

OK, NO_CONTENT = 200, 204
BAD_REQUEST, FORBIDDEN, NOT_FOUND = 400, 403, 404
TOO_MANY_REQUESTS, NOT_IMPLEMENTED, UNAVAILABLE = 429, 501, 503
REDIRECT_FROM, REDIRECT_TO = 300, 399
_SHOWN = 300  # characters of a server's own words in a message

# No engine was reached.
_NOTHING_DONE = {
    NOT_FOUND: "there is nothing; expected an engine at this mount, in this namespace; check "
    "mount, name and namespace",
    412: "the node has not yet seen what was written last",
    # Of sys/health and, by some proxies in front, of every path: nodes that do not sign.
    472: "answered by a node of a disaster-recovery secondary; address the active one",
    473: "answered by a performance standby; address the active one",
    NOT_IMPLEMENTED: "OpenBao is not initialised; run bao operator init",
    UNAVAILABLE: "OpenBao is sealed or without a leader; unseal it",
}

# 400s that every order of a backend meets alike: its configuration, not the order's.
_OUR_CONFIGURATION = {
    "unknown role": "the role is missing; create it, or name the right one",
    "signing key not found": "the key is missing; create it, or name the right one",
    "beyond the expiration of the ca certificate": "the CA ends before the certificate would; "
    "renew the CA",
    "not_after_bound is set to forbid": "the role forbids not_after; set its not_after_bound to "
    "ttl-limited, or set `validity: ttl` here",
}

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back of one request.

    Attributes:
        status: HTTP status.
        body: Its bytes, bounded.
        retry_after: The header, empty when absent (quotas send none).
        location: Where a redirect leads.
    """

    status: int
    body: bytes
    retry_after: str = ""
    location: str = ""


def check_answer(answer: Answer, path: str, *, maybe_issued: bool) -> JsonObject:
    """Return the JSON object of a good answer; empty where there is none.

    Args:
        answer: What came back.
        path: What was asked, for messages.
        maybe_issued: A certificate that is paid for may exist if the answer is
            no clear no.

    Raises:
        BackendUnavailable: No answer to the question, or a no that every
            request would get.
        BackendRefused: A no to this request.
        Overloaded: A quota.
    """
    if answer.status == NO_CONTENT:
        return {}
    if answer.status == OK:
        return _read(answer.body, path, maybe_issued=maybe_issued)
    raise _fault(answer, path, maybe_issued=maybe_issued)


def denied(path: str, answer: Answer) -> BackendUnavailable:
    """Say that we are not allowed, after a fresh login: the text for people."""
    return BackendUnavailable(
        f"{path}: OpenBao denies it to a fresh login ({said(answer)}); a bad login and a missing "
        "right look alike: check that the token's policies allow this path"
    )


def said(answer: Answer) -> str:
    """Return the server's own words, cut and printable; never more than it sent."""
    try:
        found = json.loads(answer.body)
        errors = found.get("errors") if isinstance(found, dict) else None
        text = "; ".join(map(str, errors)) if isinstance(errors, list) else ""
    except ValueError:
        text = ""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text[:_SHOWN] or f"HTTP {answer.status}"


def _read(body: bytes, path: str, *, maybe_issued: bool) -> JsonObject:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        text = f"{path}: the answer is no JSON"
        raise BackendUnavailable(text, maybe_issued=maybe_issued) from error
    if not isinstance(found, dict):
        text = f"{path}: the answer is no JSON object"
        raise BackendUnavailable(text, maybe_issued=maybe_issued)
    return found


def _fault(answer: Answer, path: str, *, maybe_issued: bool) -> MeshsignerError:
    status, words = answer.status, said(answer)
    if status == TOO_MANY_REQUESTS:
        return Overloaded(f"OpenBao quota on {path}", retry_after_s=_seconds(answer.retry_after))
    if status == BAD_REQUEST:
        return _bad_request(path, words)
    if status == FORBIDDEN:
        return denied(path, answer)
    if status in _NOTHING_DONE:
        return BackendUnavailable(f"{path}: {_NOTHING_DONE[status]} ({words})")
    if REDIRECT_FROM <= status <= REDIRECT_TO:
        return BackendUnavailable(
            f"{path}: a standby sends us to {answer.location[:_SHOWN]!r}; redirects are not "
            "followed, for the token would go with them; address the active node"
        )
    # Whatever is left ended somewhere on the way or inside: 500, 502, 504.
    return BackendUnavailable(f"{path}: HTTP {status} ({words})", maybe_issued=maybe_issued)


def _bad_request(path: str, words: str) -> MeshsignerError:
    for pattern, advice in _OUR_CONFIGURATION.items():
        if pattern in words.lower():
            return BackendUnavailable(f"{path}: {words}: {advice}")
    return BackendRefused(f"{path}: {words}")


def _seconds(retry_after: str) -> float | None:
    """Read a Retry-After in seconds (RFC 9110 10.2.3); a date is not worth its reading."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
