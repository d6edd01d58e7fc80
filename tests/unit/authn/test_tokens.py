"""What a token must look like and say, rule by rule."""

import json
from typing import Any

import pytest

from meshsigner.authn.compact_jws import ALGORITHMS, MAX_TOKEN_BYTES
from meshsigner.authn.tokens import (
    TokenRules,
    UnverifiedToken,
    bearer_token,
    check_token,
    parse_service_account,
    parse_token,
    token_digest,
)
from meshsigner.errors import ConfigurationError, Unauthenticated
from meshsigner.model import Credentials
from tests.fakes.tokens import (
    AUDIENCE,
    ISSUER,
    NOW_S,
    UNBOUND,
    claims,
    encode,
    encode_json,
    make_token,
    private,
    sign_parts,
)

RULES = TokenRules(audiences=(AUDIENCE,), issuer=ISSUER)
HEADER = {"alg": "RS256", "kid": "k1"}
PRIVATE = claims()["kubernetes.io"]


def refusal(text: str, rules: TokenRules = RULES) -> str:
    """Return why a token is refused before anybody looks at its signature."""
    with pytest.raises(Unauthenticated) as caught:
        check_token(parse_token(text), rules, NOW_S)
    assert caught.value.client_text == "request authenticate failure"
    return str(caught.value)


def accepted(text: str, rules: TokenRules = RULES) -> UnverifiedToken:
    """Return a token that passes."""
    return check_token(parse_token(text), rules, NOW_S)


def change(name: str, value: object) -> dict[str, Any]:
    """Return a change of one claim."""
    return {name: value}


def raw(header: bytes, payload: bytes) -> str:
    """Sign two segments of any bytes."""
    return sign_parts(encode(header), encode(payload))


def test_everything_a_token_says_is_read() -> None:
    """Account, pod, node, credential id, times and the signed bytes come out of a good token."""
    text = make_token()
    token = accepted(text)
    assert (token.algorithm, token.key_id, token.issuer) == ("RS256", "k1", ISSUER)
    assert (token.namespace, token.service_account) == ("foo", "bar")
    assert (token.pod_name, token.pod_uid, token.node_name) == ("bar-0", "pod-uid", "node-1")
    assert token.credential_id == "b6b573b3-3304-42ec-a947-bc740b137d5b"
    assert (token.issued_at_s, token.not_before_s) == (NOW_S - 60, NOW_S - 60)
    assert token.expires_at_s == NOW_S + 3600
    assert token.audiences == (AUDIENCE,)
    assert token.signed == text.rpartition(".")[0].encode()
    assert len(token.signature) == 256


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "HS512", "ES256K", "EdDSA", "rs256"]
)
def test_algorithms_that_are_not_allowed_are_refused(algorithm: str) -> None:
    """`none`, HMAC, other spellings and what was not configured never reach a key."""
    text = sign_parts(encode_json({**HEADER, "alg": algorithm}), encode_json(claims()))
    assert refusal(text) == "the token's algorithm is not among the allowed ones"


def test_algorithms_are_allowed_by_configuration_only() -> None:
    """The default is RS256 and ES256; each other asymmetric one must be named."""
    assert TokenRules(audiences=(AUDIENCE,), algorithms=ALGORITHMS).algorithms == ALGORITHMS
    for algorithm in ALGORITHMS:
        text = sign_parts(encode_json({**HEADER, "alg": algorithm}), encode_json(claims()))
        named = TokenRules(audiences=(AUDIENCE,), issuer=ISSUER, algorithms=frozenset({algorithm}))
        assert accepted(text, named).algorithm == algorithm
        if algorithm not in {"RS256", "ES256"}:
            assert "algorithm" in refusal(text)


@pytest.mark.parametrize("name", ["exp", "iat", "iss", "aud", "sub"])
def test_each_required_claim_is_required(name: str) -> None:
    """A token without `exp`, `iat`, `iss`, `aud` or `sub` is refused."""
    assert refusal(make_token(**change(name, None))).startswith(f"{name} is missing")


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value", [True, False, "1795437234", [1], {}, -1, 10**12, 10**400, -0.5, None]
)
def test_times_are_numbers_within_reason(name: str, value: object) -> None:
    """Booleans, texts, negative and huge numbers are no time."""
    text = sign_parts(encode_json(HEADER), encode_json({**claims(), name: value}))
    assert refusal(text) == f"{name} is missing or not a time"


def test_an_infinite_time_is_refused() -> None:
    """`1e999` is valid JSON and would never expire."""
    payload = json.dumps(claims()).replace(str(NOW_S + 3600), "1e999").encode()
    assert refusal(raw(json.dumps(HEADER).encode(), payload)) == "exp is missing or not a time"


def test_fractions_of_a_second_are_times() -> None:
    """RFC 7519 2: a NumericDate may have a fraction."""
    assert accepted(make_token(exp=NOW_S + 0.5)).expires_at_s == NOW_S + 0.5


@pytest.mark.parametrize(
    "aud", [[], "", [""], [AUDIENCE, 1], [None], {AUDIENCE: 1}, 1, True, [[AUDIENCE]]]
)
def test_audiences_are_a_text_or_texts(aud: object) -> None:
    """An empty list, empty texts and other types name no audience."""
    cause = refusal(make_token(aud=aud))
    assert cause.startswith("aud is ") or cause == "the token is for another audience"


def test_one_audience_of_several_is_enough() -> None:
    """`aud` may be one text or a list; one that is allowed is enough."""
    assert accepted(make_token(aud=AUDIENCE)).audiences == (AUDIENCE,)
    assert accepted(make_token(aud=["vault", AUDIENCE])).audiences == ("vault", AUDIENCE)
    two = TokenRules(audiences=("other", AUDIENCE), issuer=ISSUER)
    assert accepted(make_token(), two).audiences == (AUDIENCE,)


@pytest.mark.parametrize("aud", ["vault", ["vault"], "istio-ca2", ["ISTIO-CA"], "istio-c"])
def test_another_audience_is_refused(aud: object) -> None:
    """A token for somebody else is not for us, however alike the names."""
    assert refusal(make_token(aud=aud)) == "the token is for another audience"


@pytest.mark.parametrize("iss", ["https://attacker.example", ISSUER + "/", ISSUER.upper()])
def test_another_issuer_is_refused(iss: str) -> None:
    """`iss` is the configured one, letter for letter."""
    assert refusal(make_token(iss=iss)) == "the token is of another issuer"


def test_without_a_configured_issuer_any_passes() -> None:
    """In TokenReview mode the API server knows its issuers."""
    rules = TokenRules(audiences=(AUDIENCE,))
    assert (
        accepted(make_token(iss="https://other.example"), rules).issuer == "https://other.example"
    )


def test_expiry_counts_with_the_stated_leeway() -> None:
    """A token holds until `exp` plus 10 s, not a moment longer."""
    assert accepted(make_token(exp=NOW_S - 9)).namespace == "foo"
    assert refusal(make_token(exp=NOW_S - 10)) == "the token has expired"
    assert refusal(make_token(exp=0)) == "the token has expired"
    strict = TokenRules(audiences=(AUDIENCE,), issuer=ISSUER, leeway_s=0)
    assert accepted(make_token(exp=NOW_S + 1), strict).namespace == "foo"
    assert refusal(make_token(exp=NOW_S), strict) == "the token has expired"


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_from_the_future_is_refused(name: str) -> None:
    """`nbf` and `iat` may lie ahead by the leeway only."""
    assert accepted(make_token(**change(name, NOW_S + 10))).namespace == "foo"
    assert refusal(make_token(**change(name, NOW_S + 11))) == "the token is not valid yet"


def test_nbf_is_optional() -> None:
    """Without `nbf` a token counts from `iat`."""
    assert accepted(make_token(nbf=None)).not_before_s == NOW_S - 60


@pytest.mark.parametrize(
    "sub",
    [
        "alice",
        "",
        1,
        "system:serviceaccount:foo",
        "system:serviceaccount:foo:bar:baz",
        "system:serviceaccount::bar",
        "system:serviceaccount:foo:",
        "system:serviceaccounts:foo:bar",
        "System:serviceaccount:foo:bar",
        "system:node:foo:bar",
        ":serviceaccount:foo:bar",
        "system:serviceaccount:foo:bar:",
    ],
)
def test_only_service_accounts_are_callers(sub: object) -> None:
    """Users, nodes, five parts and empty ones are no service account."""
    text = make_token(sub=sub, **UNBOUND)
    assert refusal(text) in {
        "sub is missing or not a text",
        "not system:serviceaccount:<namespace>:<name>",
    }


def test_a_service_account_is_four_parts() -> None:
    """Namespace and name are the third and fourth part."""
    assert parse_service_account("system:serviceaccount:foo:bar") == ("foo", "bar")


@pytest.mark.parametrize(
    "value",
    [
        {**PRIVATE, "namespace": "other"},
        {**PRIVATE, "serviceaccount": {"name": "other", "uid": "u"}},
        {name: value for name, value in PRIVATE.items() if name != "namespace"},
        {**PRIVATE, "namespace": 1},
        {**PRIVATE, "serviceaccount": {"uid": "u"}},
    ],
)
def test_the_subject_equals_the_kubernetes_claim(value: dict[str, Any]) -> None:
    """Where `kubernetes.io` is there, its namespace and account are those of `sub`."""
    text = make_token(**private(value))
    assert refusal(text) == "sub differs from the kubernetes.io claim"


@pytest.mark.parametrize(
    "value",
    [
        1,
        "foo",
        [],
        {"namespace": "foo"},
        {"namespace": "foo", "serviceaccount": "bar"},
        {**PRIVATE, "pod": "bar-0"},
        {**PRIVATE, "pod": {"name": "bar-0"}},
        {**PRIVATE, "pod": {"uid": "u"}},
        {**PRIVATE, "pod": {"name": 1, "uid": "u"}},
        {**PRIVATE, "pod": {"name": "bar\n0", "uid": "u"}},
        {**PRIVATE, "pod": {"name": "bar-0", "uid": "u" * 254}},
        {**PRIVATE, "node": {"uid": "u"}},
        {**PRIVATE, "node": "node-1"},
    ],
)
def test_a_kubernetes_claim_of_another_form_is_refused(value: object) -> None:
    """Half a pod, other types and names that no object has are refused."""
    cause = refusal(make_token(**private(value)))
    assert " is missing or not " in cause or cause.endswith("is not at most 253 visible characters")


def test_a_token_need_not_be_bound_to_a_pod() -> None:
    """Without the claim, the pod or the node their names stay empty."""
    for value, expected in [
        (None, ("", "", "")),
        ({"namespace": "foo", "serviceaccount": {"name": "bar"}}, ("", "", "")),
        (
            {name: value for name, value in PRIVATE.items() if name != "node"},
            ("bar-0", "pod-uid", ""),
        ),
    ]:
        token = accepted(make_token(**private(value)))
        assert (token.pod_name, token.pod_uid, token.node_name) == expected


def test_legacy_tokens_from_secrets_are_refused() -> None:
    """Tokens of the old form never expire: refused by issuer, and by their flat claims."""
    flat = "kubernetes.io/serviceaccount/namespace"
    assert refusal(make_token(iss="kubernetes/serviceaccount")) == "a legacy token from a secret"
    assert refusal(make_token(**change(flat, "foo"))) == "a legacy token from a secret"
    legacy = {
        "iss": "kubernetes/serviceaccount",
        flat: "foo",
        "kubernetes.io/serviceaccount/secret.name": "bar-token",
        "sub": "system:serviceaccount:foo:bar",
    }
    text = sign_parts(encode_json(HEADER), encode_json(legacy))
    assert refusal(text, TokenRules(audiences=(AUDIENCE,))) == "a legacy token from a secret"


def test_the_credential_id_is_optional_but_visible() -> None:
    """A token may have no `jti`; one that could not stand in a record is refused."""
    assert accepted(make_token(jti=None)).credential_id == ""
    for jti in ["", 1, "a b", "\udc80", "x" * 254]:
        assert refusal(make_token(jti=jti)).startswith("jti is ")


def test_refusals_quote_nothing_of_the_token() -> None:
    """What a stranger wrote never reaches the log by way of a refusal."""
    mark = "SECRETMARK"
    for text in [
        mark,
        make_token(iss=mark),
        make_token(aud=mark),
        make_token(sub=mark),
        make_token(jti=mark + "\n"),
        make_token(kid=mark + " "),
        make_token(header={"alg": mark}),
        make_token(**private({"namespace": mark, "serviceaccount": {"name": mark}})),
        raw(b'{"alg":"' + mark.encode() + b'","alg":"x"}', b"{}"),
    ]:
        assert mark not in refusal(text)


def test_statement_40_a_token_without_tls_is_refused() -> None:
    """A token that crossed a plain connection is nobody's secret any more."""
    with pytest.raises(Unauthenticated, match="without TLS"):
        bearer_token(Credentials(bearer_token=make_token(), secure=False))


@pytest.mark.parametrize("token", [None, ""])
def test_no_token_is_no_credential(token: str | None) -> None:
    """A missing or empty token is refused."""
    with pytest.raises(Unauthenticated, match="no bearer token"):
        bearer_token(Credentials(bearer_token=token))


def test_a_huge_token_is_refused_before_anything_is_computed() -> None:
    """Size comes first, so that length costs a stranger's bytes and not our time."""
    with pytest.raises(Unauthenticated, match="longer than 8 KiB"):
        bearer_token(Credentials(bearer_token="x" * (MAX_TOKEN_BYTES + 1)))
    assert len(bearer_token(Credentials(bearer_token="x" * MAX_TOKEN_BYTES))) == MAX_TOKEN_BYTES


def test_any_text_has_a_digest_of_its_own() -> None:
    """Texts outside of ASCII and lone surrogates have digests too, and different ones."""
    texts = ["", "a", "ä", "?", "\udc80", "\ufffd"]
    assert len({token_digest(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "arguments",
    [
        {"audiences": ()},
        {"audiences": ("",)},
        {"audiences": ("a",), "algorithms": frozenset()},
        {"audiences": ("a",), "algorithms": frozenset({"HS256"})},
        {"audiences": ("a",), "algorithms": frozenset({"RS256", "none"})},
    ],
)
def test_rules_that_would_let_anything_pass_cannot_exist(arguments: dict[str, Any]) -> None:
    """No audience and algorithms with a shared secret, or none, are configuration errors."""
    with pytest.raises(ConfigurationError):
        TokenRules(**arguments)
