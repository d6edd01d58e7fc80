"""What a service-account token must look like and say before anybody believes it.

Decides the form (a compact JWS of bounded size, strict base64url, strict JSON)
and the rules for claims. It verifies no signature: that is `keys` or the API
server, so everything here is unproven until one of them agrees. Refusals never
quote the token.

Source: RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best practices); Kubernetes
pkg/serviceaccount/claims.go (the private claim); istio
security/pkg/k8s/tokenreview/k8sauthn.go (subject).
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from meshsigner.authn.strict_json import InvalidJson, parse_object
from meshsigner.errors import ConfigurationError, Unauthenticated
from meshsigner.model import Credentials

MAX_TOKEN_BYTES = 8_192
MAX_NAME_BYTES = 253  # Kubernetes: an object's name is at most a DNS subdomain
MAX_TIME_S = 253_402_300_800  # year 10000: `datetime` ends before

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"},
)  # RFC 7518 3.1 without `none` and HMAC

# `crit` and `b64` change how a token is read, the others bring their own key or
# are of JWE: RFC 7515 4.1, RFC 7797, RFC 8725 3.5 and 3.10.
_REFUSED_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"})

_TOKEN = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
# What a segment may end in, by its length modulo 4: the spare bits of the last
# letter are zero, so that two texts never are the same token (RFC 4648 3.5).
_LAST_LETTERS = {2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_VISIBLE = re.compile(r"[!-~]+")

_LEGACY_ISSUER = "kubernetes/serviceaccount"
_LEGACY_PREFIX = "kubernetes.io/serviceaccount/"
_SUBJECT_PREFIX = ["system", "serviceaccount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token of one authenticator must be.

    Attributes:
        audiences: The token must be made for one of these.
        issuer: Its `iss`, exactly; None leaves that to the API server.
        algorithms: Which signatures are looked at.
        leeway_s: How far the issuer's clock may differ from ours, seconds; it
            counts for `exp`, `nbf` and `iat` alike.
    """

    audiences: tuple[str, ...]
    issuer: str | None = None
    algorithms: frozenset[str] = frozenset({"RS256", "ES256"})
    leeway_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse rules that no token, or any token, would meet.

        Raises:
            ConfigurationError: No audience, or an algorithm that is not asymmetric.
        """
        if not self.audiences or not all(self.audiences):
            raise ConfigurationError("token audiences: at least one, none of them empty")
        if not self.algorithms or not self.algorithms <= ALGORITHMS:
            allowed = ", ".join(sorted(ALGORITHMS))
            raise ConfigurationError(f"token algorithms: at least one, each of {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnverifiedToken:
    """What a well-formed token says about itself; nobody has vouched for it.

    Attributes:
        algorithm: Header `alg`, any text.
        key_id: Header `kid`; good for looking up a key, for nothing else.
        issuer: `iss`.
        audiences: `aud`.
        issued_at_s: `iat`, seconds since the epoch.
        not_before_s: `nbf`, or `iat` where there is none.
        expires_at_s: `exp`.
        namespace: Third part of `sub`.
        service_account: Fourth part of `sub`.
        credential_id: `jti`, empty when there is none.
        pod_name: Pod that the token is bound to, empty when not bound.
        pod_uid: That pod's UID.
        node_name: That pod's node, empty while unknown.
        signed: The bytes under the signature.
        signature: The signature.
    """

    algorithm: str
    key_id: str
    issuer: str
    audiences: tuple[str, ...]
    issued_at_s: float
    not_before_s: float
    expires_at_s: float
    namespace: str
    service_account: str
    credential_id: str
    pod_name: str
    pod_uid: str
    node_name: str
    signed: bytes
    signature: bytes


def bearer_token(credentials: Credentials) -> str:
    """Return the token of a caller who may be listened to.

    Raises:
        Unauthenticated: None, a longer one than any cluster issues, or one that
            came over a plain connection, where anybody could have read it.

    Source: istio pkg/security/authentication.go Authenticate.
    """
    token = credentials.bearer_token
    if not credentials.secure:
        raise Unauthenticated("a token on a connection without TLS")
    if not token:
        raise Unauthenticated("no bearer token")
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated("the token is longer than 8 KiB")
    return token


def token_digest(text: str) -> bytes:
    """Return the SHA-256 under which a token is remembered; any text has one."""
    return sha256(text.encode(errors="surrogatepass")).digest()


def parse_service_account(username: str) -> tuple[str, str]:
    """Read namespace and name from a service account's username.

    Args:
        username: `system:serviceaccount:<namespace>:<name>`.

    Raises:
        Unauthenticated: Another user, more parts or an empty one.

    Source: istio security/pkg/k8s/tokenreview/k8sauthn.go getTokenReviewResult.
    """
    match username.split(":"):
        case [system, kind, namespace, name] if namespace and name:
            if [system, kind] == _SUBJECT_PREFIX:
                return namespace, name
    raise Unauthenticated("not system:serviceaccount:<namespace>:<name>")


def parse_token(text: str) -> UnverifiedToken:
    """Take a token apart without believing it.

    Args:
        text: Whatever stood behind `Bearer `.

    Raises:
        Unauthenticated: Not a compact JWS with the claims of a service-account
            token.
    """
    match = _TOKEN.fullmatch(text.encode("ascii", errors="replace"))
    if match is None or len(text) > MAX_TOKEN_BYTES:
        raise Unauthenticated("not three segments of base64url within 8 KiB")
    header, claims = _object(match[1], "header"), _object(match[2], "claims")
    _refuse_headers(header)
    _refuse_legacy(claims)
    namespace, service_account = parse_service_account(_text(claims, "sub"))
    bound_to = _binding(claims, namespace, service_account)
    issued_at_s = _seconds(claims, "iat")
    return UnverifiedToken(
        algorithm=_text(header, "alg"),
        key_id=_visible(header, "kid"),
        issuer=_text(claims, "iss"),
        audiences=_audiences(claims),
        issued_at_s=issued_at_s,
        not_before_s=_seconds(claims, "nbf") if "nbf" in claims else issued_at_s,
        expires_at_s=_seconds(claims, "exp"),
        namespace=namespace,
        service_account=service_account,
        credential_id=_visible(claims, "jti") if "jti" in claims else "",
        pod_name=bound_to[0],
        pod_uid=bound_to[1],
        node_name=bound_to[2],
        signed=match.string[: match.start(3) - 1],
        signature=_decode(match[3]),
    )


def check_token(token: UnverifiedToken, rules: TokenRules, now_s: float) -> UnverifiedToken:
    """Refuse a token that could not be believed whatever its signature.

    Args:
        token: What it says.
        rules: What it must say.
        now_s: The turn's time, seconds since the epoch.

    Returns:
        The same token.

    Raises:
        Unauthenticated: Another algorithm, issuer or audience, or not valid now.
    """
    if token.algorithm not in rules.algorithms:
        raise Unauthenticated("the token's algorithm is not among the allowed ones")
    if rules.issuer is not None and token.issuer != rules.issuer:
        raise Unauthenticated("the token is of another issuer")
    if not set(rules.audiences).intersection(token.audiences):
        raise Unauthenticated("the token is for another audience")
    if now_s >= token.expires_at_s + rules.leeway_s:
        raise Unauthenticated("the token has expired")
    # A token from the future is refused as go-jose does it for Kubernetes.
    if max(token.not_before_s, token.issued_at_s) > now_s + rules.leeway_s:
        raise Unauthenticated("the token is not valid yet")
    return token


def _decode(segment: bytes) -> bytes:
    """Read base64url without padding, in its one canonical form (RFC 7515 2)."""
    rest = len(segment) % 4
    if rest and segment[-1] not in _LAST_LETTERS.get(rest, b""):
        raise Unauthenticated("not canonical base64url")
    return binascii.a2b_base64(segment.translate(_TO_STANDARD) + b"=" * (-rest % 4))


def _object(segment: bytes, name: str) -> dict[str, Any]:
    try:
        return parse_object(_decode(segment))
    except InvalidJson as error:
        raise Unauthenticated(f"the token's {name}: {error}") from None


def _refuse_headers(header: Mapping[str, Any]) -> None:
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise Unauthenticated("a header that changes the key or the meaning of the token")


def _refuse_legacy(claims: Mapping[str, Any]) -> None:
    """Refuse tokens from secrets: they never expire and are for any audience.

    Source: Kubernetes pkg/serviceaccount/legacy.go.
    """
    if claims.get("iss") == _LEGACY_ISSUER or any(n.startswith(_LEGACY_PREFIX) for n in claims):
        raise Unauthenticated("a legacy token from a secret")


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise Unauthenticated(f"{name} is missing or not a text")
    return value


def _visible(members: Mapping[str, Any], name: str) -> str:
    """Read a text that may go into a log, a record or a look-up."""
    value = _text(members, name)
    if len(value) > MAX_NAME_BYTES or not _VISIBLE.fullmatch(value):
        raise Unauthenticated(f"{name} is not at most 253 visible characters")
    return value


def _seconds(claims: Mapping[str, Any], name: str) -> float:
    value: Any = claims.get(name)
    # bool is an int in Python; infinity and NaN fail the comparison
    if type(value) not in {int, float} or not 0 <= value < MAX_TIME_S:
        raise Unauthenticated(f"{name} is missing or not a time")
    return float(value)


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Read `aud`, which is one text or a list of them (RFC 7519 4.1.3)."""
    value = claims.get("aud")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise Unauthenticated("aud is missing or neither a text nor a list of texts")
    return tuple(values)


def _member(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = members.get(name)
    if not isinstance(value, dict):
        raise Unauthenticated(f"{name} is missing or not an object")
    return value


def _binding(claims: Mapping[str, Any], namespace: str, name: str) -> tuple[str, str, str]:
    """Read pod name, pod UID and node name; the private claim must fit the subject."""
    if "kubernetes.io" not in claims:
        return "", "", ""
    private = _member(claims, "kubernetes.io")
    account = _member(private, "serviceaccount")
    if private.get("namespace") != namespace or account.get("name") != name:
        raise Unauthenticated("sub differs from the kubernetes.io claim")
    if "pod" not in private:
        return "", "", ""
    pod = _member(private, "pod")
    node = _visible(_member(private, "node"), "name") if "node" in private else ""
    return _visible(pod, "name"), _visible(pod, "uid"), node
