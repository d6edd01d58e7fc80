"""What a service-account token must say before anybody believes it.

Decides the rules for claims. Its outer form is `compact_jws`; no signature is
verified here: that is `keys` or the API server, so everything here is unproven
until one of them agrees. Refusals never quote the token.

Source: RFC 7519 (JWT), RFC 8725 (best practices); Kubernetes
pkg/serviceaccount/claims.go (the private claim); istio
security/pkg/k8s/tokenreview/k8sauthn.go (subject).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from meshsigner.authn.compact_jws import ALGORITHMS, MAX_TOKEN_BYTES, parse_compact
from meshsigner.authn.members import read_name, read_object, read_seconds, read_text
from meshsigner.errors import ConfigurationError, Unauthenticated
from meshsigner.model import Credentials
from meshsigner.spiffe import InvalidSpiffeId, TrustDomain, WorkloadId

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

    def identity_in(self, trust_domain: TrustDomain) -> WorkloadId:
        """Name the workload whose token it says to be.

        Raises:
            Unauthenticated: No namespace or account of Kubernetes is called so.
        """
        try:
            return WorkloadId.of(trust_domain, self.namespace, self.service_account)
        except InvalidSpiffeId:
            raise Unauthenticated("a name that Kubernetes could not have given") from None


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
    jws = parse_compact(text)
    claims = jws.claims
    _refuse_legacy(claims)
    namespace, service_account = parse_service_account(read_text(claims, "sub"))
    pod_name, pod_uid, node_name = _binding(claims, namespace, service_account)
    issued_at_s = read_seconds(claims, "iat")
    return UnverifiedToken(
        algorithm=jws.algorithm,
        key_id=jws.key_id,
        issuer=read_text(claims, "iss"),
        audiences=_audiences(claims),
        issued_at_s=issued_at_s,
        not_before_s=read_seconds(claims, "nbf") if "nbf" in claims else issued_at_s,
        expires_at_s=read_seconds(claims, "exp"),
        namespace=namespace,
        service_account=service_account,
        credential_id=read_name(claims, "jti") if "jti" in claims else "",
        pod_name=pod_name,
        pod_uid=pod_uid,
        node_name=node_name,
        signed=jws.signed,
        signature=jws.signature,
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


def _refuse_legacy(claims: Mapping[str, Any]) -> None:
    """Refuse tokens from secrets: they never expire and are for any audience.

    Source: Kubernetes pkg/serviceaccount/legacy.go.
    """
    if claims.get("iss") == _LEGACY_ISSUER or any(n.startswith(_LEGACY_PREFIX) for n in claims):
        raise Unauthenticated("a legacy token from a secret")


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Read `aud`, which is one text or a list of them (RFC 7519 4.1.3)."""
    value = claims.get("aud")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise Unauthenticated("aud is missing or neither a text nor a list of texts")
    return tuple(values)


def _binding(claims: Mapping[str, Any], namespace: str, name: str) -> tuple[str, str, str]:
    """Read pod name, pod UID and node name; the private claim must fit the subject."""
    if "kubernetes.io" not in claims:
        return "", "", ""
    private = read_object(claims, "kubernetes.io")
    account = read_object(private, "serviceaccount")
    if private.get("namespace") != namespace or account.get("name") != name:
        raise Unauthenticated("sub differs from the kubernetes.io claim")
    if "pod" not in private:
        return "", "", ""
    pod = read_object(private, "pod")
    node = read_name(read_object(private, "node"), "name") if "node" in private else ""
    return read_name(pod, "name"), read_name(pod, "uid"), node
