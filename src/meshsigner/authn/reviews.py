"""What an API server's answer about a token means.

Decides whether the answer proves a service account, refuses the token, or says
nothing about it. Who asks, and how often, is `token_review`.

Source: Kubernetes authentication.k8s.io/v1 TokenReviewStatus; istio
security/pkg/k8s/tokenreview/k8sauthn.go getTokenReviewResult.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshsigner.authn.members import MAX_NAME_BYTES
from meshsigner.authn.review_texts import Meaning, meaning_of
from meshsigner.authn.tokens import parse_service_account
from meshsigner.errors import BackendUnavailable, Unauthenticated

SERVICE_ACCOUNTS = "system:serviceaccounts"  # the group of all of them
MAX_QUOTED = 200  # characters of an unknown text
_EXTRA = "authentication.kubernetes.io/"
_CREDENTIAL_PREFIX = "JTI="  # Kubernetes apiserver/pkg/authentication/serviceaccount/util.go
_VISIBLE = re.compile(r"[!-~]*")


class UnclearReview(BackendUnavailable):
    """The API server answered, and its answer is neither proof nor refusal."""


class DoubtfulRefusal(Unauthenticated):
    """The API server refuses the token, unless its own store is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """Whom the API server recognised.

    Attributes:
        namespace: The service account's namespace.
        service_account: Its name.
        credential_id: The token's `jti`, empty from servers before 1.30.
        pod_name: Pod that the token is bound to, empty when not bound.
        pod_uid: That pod's UID.
        node_name: That pod's node, empty while unknown.
    """

    namespace: str
    service_account: str
    credential_id: str
    pod_name: str
    pod_uid: str
    node_name: str


def read_review(status: Mapping[str, Any], audiences: Sequence[str]) -> Reviewed:
    """Read the status of a token review.

    Args:
        status: As the API server filled it.
        audiences: Which were asked for.

    Raises:
        Unauthenticated: The server refuses the token, or it is for none of the
            audiences, or whose it is, is no service account.
        DoubtfulRefusal: It refuses the token, and would say so too if it could
            not look the pod up.
        UnclearReview: The server says neither, so nothing is known.
    """
    if status.get("error"):
        raise _refusal(status["error"])
    if status.get("authenticated") is not True:
        # a server that refuses always says why
        raise UnclearReview("a token review without a verdict")
    # Without this a server that knows no audiences would pass tokens for others.
    if not set(audiences).intersection(_texts(status.get("audiences"))):
        raise Unauthenticated("the API server names none of the audiences asked for")
    user = status.get("user")
    if not isinstance(user, dict):
        raise UnclearReview("a token review without a user")
    if SERVICE_ACCOUNTS not in _texts(user.get("groups")):
        raise Unauthenticated("not a service account's token")
    return _read_user(user)


def _refusal(error: object) -> Unauthenticated | UnclearReview:
    meaning = meaning_of(error) if isinstance(error, str) else Meaning.UNKNOWN
    if meaning is Meaning.REFUSED:
        return Unauthenticated("the API server refuses the token")
    if meaning is Meaning.DOUBTFUL:
        return DoubtfulRefusal("the API server refuses the token: its pod is gone")
    return UnclearReview(f"a token review with an unknown error: {ascii(error)[:MAX_QUOTED]}")


def _read_user(user: Mapping[str, Any]) -> Reviewed:
    username = user.get("username")
    namespace, service_account = parse_service_account(
        username if isinstance(username, str) else "",
    )
    extra = user.get("extra", {})
    if not isinstance(extra, dict):
        raise UnclearReview("a token review with extra of another form")
    return Reviewed(
        namespace=namespace,
        service_account=service_account,
        credential_id=_first(extra, "credential-id").removeprefix(_CREDENTIAL_PREFIX),
        pod_name=_first(extra, "pod-name"),
        pod_uid=_first(extra, "pod-uid"),
        node_name=_first(extra, "node-name"),
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: object) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise UnclearReview("a token review with a list of another form")
    return value


def _first(extra: Mapping[str, Any], name: str) -> str:
    """Return the one value of a member, fit for a log and a record, or nothing."""
    values = _texts(extra.get(_EXTRA + name))
    value = values[0] if values else ""
    if len(value) > MAX_NAME_BYTES or not _VISIBLE.fullmatch(value):
        raise UnclearReview(f"a token review whose {name} is no name")
    return value
