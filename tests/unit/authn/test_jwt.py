"""Callers proven by the signature of their token."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from meshsigner.authn.jwt import JwtAuthenticator
from meshsigner.authn.tokens import TokenRules
from meshsigner.errors import BackendUnavailable, ConfigurationError, Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials
from meshsigner.ports import Parked
from meshsigner.spiffe import TrustDomain
from tests.fakes.authn import (
    RULES,
    TRUST_DOMAIN,
    FakeClock,
    FakeKeySource,
    away,
    make_jwt,
    make_public_keys,
)
from tests.fakes.tokens import (
    AUDIENCE,
    NOW,
    NOW_S,
    UNBOUND,
    claims,
    ec_key,
    encode_json,
    jwk,
    jwks,
    make_token,
    rsa_key,
    sign_parts,
)


def show(token: str | None) -> Credentials:
    """Return credentials with a token."""
    return Credentials(bearer_token=token)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def source() -> FakeKeySource:
    """A source with one key, k1."""
    return FakeKeySource()


@pytest.fixture
async def authenticator(source: FakeKeySource, clock: FakeClock) -> AsyncIterator[JwtAuthenticator]:
    """An authenticator that has read its keys."""
    made = make_jwt(source, clock)
    await made.start()
    yield made
    await made.aclose()


def test_statement_34_a_good_token_gives_an_istio_identity(
    authenticator: JwtAuthenticator,
) -> None:
    """The caller is the service account of the token, in Istio's path form, with its pod."""
    found = authenticator.identify(show(make_token()), NOW)
    assert isinstance(found, Caller)
    assert found.identity.uri == "spiffe://cluster.local/ns/foo/sa/bar"
    assert found.cluster == "Kubernetes"
    assert found.auth_method is AuthMethod.JWT
    assert (found.pod_name, found.pod_uid, found.node_name) == ("bar-0", "pod-uid", "node-1")
    assert found.credential_id == "b6b573b3-3304-42ec-a947-bc740b137d5b"


async def test_the_trust_domain_is_the_clusters(source: FakeKeySource, clock: FakeClock) -> None:
    """A token says nothing of a trust domain; the configuration does, `@` read as `.`."""
    made = JwtAuthenticator(
        cluster="Kubernetes",
        trust_domain=TrustDomain.parse("a@example.org"),
        rules=RULES,
        keys=make_public_keys(source, clock),
    )
    await made.start()
    found = made.identify(show(make_token()), NOW)
    await made.aclose()
    assert isinstance(found, Caller)
    assert found.identity.uri == "spiffe://a.example.org/ns/foo/sa/bar"


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "garbage",
        make_token(rsa_key("two")),
        make_token(exp=NOW_S - 11),
        make_token(nbf=NOW_S + 11),
        make_token(aud="vault"),
        make_token(iss="https://attacker.example"),
        make_token(sub="alice", **UNBOUND),
        make_token(sub="system:serviceaccount:foo:bar:baz"),
        make_token(sub="system:serviceaccount:FOO:bar", **UNBOUND),
        make_token(sub="system:serviceaccount:foo:b/../x", **UNBOUND),
        make_token(algorithm="PS256"),
        make_token(header={"jwk": jwk(rsa_key())}),
        sign_parts(encode_json({"alg": "none", "kid": "k1"}), encode_json(claims())),
    ],
)
def test_statement_11_bad_credentials_are_unauthenticated(
    authenticator: JwtAuthenticator, token: str | None
) -> None:
    """Missing, malformed, foreign, expired and misdirected tokens are all refused alike."""
    for _ in range(2):  # the second time from memory, where it is remembered
        with pytest.raises(Unauthenticated) as caught:
            authenticator.identify(show(token), NOW)
        assert caught.value.client_text == "request authenticate failure"


def test_a_key_in_the_token_is_never_used(authenticator: JwtAuthenticator) -> None:
    """An attacker who brings the key along is refused, signature and all."""
    theirs = rsa_key("attacker")
    headers: list[dict[str, object]] = [
        {"jwk": jwk(theirs)},
        {"jku": "https://attacker.example/jwks"},
        {"x5u": "https://attacker.example/chain"},
    ]
    for header in headers:
        with pytest.raises(Unauthenticated, match="changes the key"):
            authenticator.identify(show(make_token(theirs, header=header)), NOW)


def test_a_caller_is_remembered_until_the_token_ends(
    authenticator: JwtAuthenticator,
) -> None:
    """Memory never changes the verdict: the token is refused when it would be without."""
    token = make_token(exp=NOW_S + 100)
    first = authenticator.identify(show(token), NOW)
    assert authenticator.identify(show(token), NOW + timedelta(seconds=109)) is first
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.identify(show(token), NOW + timedelta(seconds=110))


async def test_nothing_is_remembered_when_the_keys_change(
    authenticator: JwtAuthenticator, source: FakeKeySource
) -> None:
    """A key that was taken back verifies nothing any more, a new one may."""
    token, other = make_token(), make_token(ec_key(), kid="k1", algorithm="ES256")
    authenticator.identify(show(token), NOW)
    with pytest.raises(Unauthenticated):
        authenticator.identify(show(other), NOW)
    source.data = jwks(jwk(ec_key()))
    await authenticator._keys.refresh()
    with pytest.raises(Unauthenticated, match="does not fit the key"):
        authenticator.identify(show(token), NOW)
    assert isinstance(authenticator.identify(show(other), NOW), Caller)


def test_a_refusal_is_remembered_for_5_seconds(authenticator: JwtAuthenticator) -> None:
    """One bad token sent over and over costs one verification in 5 s."""
    token = make_token(rsa_key("two"))
    for seconds in [0.0, 4.9, 5.0]:
        with pytest.raises(Unauthenticated, match="signature is wrong"):
            authenticator.identify(show(token), NOW + timedelta(seconds=seconds))
    remembered = authenticator._verdicts._refused
    assert [until for _, until in remembered.values()] == [NOW_S + 10.0]


async def test_an_unknown_key_parks_and_the_refresh_settles_it(
    authenticator: JwtAuthenticator, source: FakeKeySource, clock: FakeClock
) -> None:
    """The first token of a rotated key waits for the refresh, then its caller is proven."""
    clock.advance(60)
    source.data = jwks(jwk(rsa_key()), jwk(rsa_key("two"), "k2"))
    credentials = show(make_token(rsa_key("two"), kid="k2"))
    parked = authenticator.identify(credentials, clock.now)
    assert isinstance(parked, Parked)
    await parked.fetch()
    assert isinstance(authenticator.identify(credentials, clock.now), Caller)


async def test_keys_that_cannot_be_read_are_our_fault(
    authenticator: JwtAuthenticator, source: FakeKeySource, clock: FakeClock
) -> None:
    """An endpoint that is away makes a caller with a new key come back, not give up."""
    clock.advance(60)
    source.fault = away()
    credentials = show(make_token(kid="k2"))
    parked = authenticator.identify(credentials, clock.now)
    assert isinstance(parked, Parked)
    with pytest.raises(BackendUnavailable):
        await parked.fetch()
    with pytest.raises(BackendUnavailable):
        authenticator.identify(credentials, clock.now)


def test_a_token_that_breaks_a_rule_never_causes_a_refresh(
    authenticator: JwtAuthenticator, source: FakeKeySource, clock: FakeClock
) -> None:
    """Strangers cannot make us ask the issuer with tokens that could not pass anyway."""
    clock.advance(60)
    broken: list[dict[str, Any]] = [{"iss": "x"}, {"aud": "x"}, {"exp": 0}]
    for changes in broken:
        with pytest.raises(Unauthenticated):
            authenticator.identify(show(make_token(kid="k9", **changes)), clock.now)
    assert source.fetches == 1


def test_an_issuer_must_be_named(source: FakeKeySource, clock: FakeClock) -> None:
    """Keys without the issuer they belong to would verify anybody's tokens."""
    with pytest.raises(ConfigurationError, match="keys of no issuer"):
        make_jwt(source, clock, rules=TokenRules(audiences=(AUDIENCE,)))


def test_ten_thousand_tokens_are_remembered(authenticator: JwtAuthenticator) -> None:
    """As the constructor's default says."""
    assert authenticator._verdicts._capacity == 10_000


def test_health_is_that_of_the_keys(authenticator: JwtAuthenticator) -> None:
    """One part, named after cluster and method."""
    [health] = authenticator.health()
    assert (health.name, health.ready) == ("authn/Kubernetes/jwks", True)
    assert authenticator.trust_domain == TRUST_DOMAIN
