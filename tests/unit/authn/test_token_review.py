"""Callers proven by the API server: what is asked, what is remembered, what is whose fault."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from meshsigner.authn.token_review import PROBE, TokenReviewAuthenticator
from meshsigner.errors import BackendUnavailable, Overloaded, Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials
from meshsigner.ports import Parked
from tests.fakes.authn import RULES, TRUST_DOMAIN, FakeClock, FakeReviewer, away
from tests.fakes.kubernetes_api import authenticated, refused
from tests.fakes.tokens import NOW_S, UNBOUND, make_token, rsa_key

TOKEN = make_token(rsa_key("nobody asks for keys here"))


def show(token: str) -> Credentials:
    """Return credentials with a token."""
    return Credentials(bearer_token=token)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that a test moves."""
    return FakeClock()


@pytest.fixture
def reviewer() -> FakeReviewer:
    """An API server that knows one token."""
    account = authenticated(
        credential_id="JTI=b6b5", pod_name="bar-0", pod_uid="uid-1", node_name="node-1"
    )
    return FakeReviewer(accounts={TOKEN: account})


def make(reviewer: FakeReviewer, clock: FakeClock, **settings: Any) -> TokenReviewAuthenticator:
    """Return an authenticator over an API server."""
    return TokenReviewAuthenticator(
        cluster="Kubernetes",
        trust_domain=TRUST_DOMAIN,
        rules=RULES,
        reviewer=reviewer,
        clock=clock,
        **settings,
    )


@pytest.fixture
async def authenticator(
    reviewer: FakeReviewer, clock: FakeClock
) -> AsyncIterator[TokenReviewAuthenticator]:
    """An authenticator with its defaults."""
    made = make(reviewer, clock)
    yield made
    await made.aclose()


def parked(authenticator: TokenReviewAuthenticator, clock: FakeClock, token: str = TOKEN) -> Parked:
    """Return what a caller must wait for."""
    found = authenticator.identify(show(token), clock.now)
    assert isinstance(found, Parked)
    return found


async def ask(
    authenticator: TokenReviewAuthenticator, clock: FakeClock, token: str = TOKEN
) -> Caller:
    """Go the whole way of a caller: park, wait, be asked again."""
    await parked(authenticator, clock, token).fetch()
    found = authenticator.identify(show(token), clock.now)
    assert isinstance(found, Caller)
    return found


async def test_statement_35_a_reviewed_token_proves_its_account(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """The caller is whom the server recognised, for the audiences that were asked for."""
    found = await ask(authenticator, clock)
    assert found.identity.uri == "spiffe://cluster.local/ns/foo/sa/bar"
    assert found.auth_method is AuthMethod.TOKEN_REVIEW
    assert (found.pod_name, found.pod_uid, found.node_name) == ("bar-0", "uid-1", "node-1")
    assert (found.cluster, found.credential_id) == ("Kubernetes", "b6b5")
    assert reviewer.asked == [(TOKEN, ("istio-ca",))]


async def test_equal_tokens_wait_for_one_review(
    authenticator: TokenReviewAuthenticator, clock: FakeClock
) -> None:
    """Same token, same key; another token, another key; the token itself is not in it."""
    one, same = parked(authenticator, clock), parked(authenticator, clock)
    other = parked(authenticator, clock, make_token(jti="other"))
    assert one.key == same.key != other.key
    assert TOKEN not in repr(one.key)


async def test_an_answer_holds_for_10_seconds(
    authenticator: TokenReviewAuthenticator, clock: FakeClock
) -> None:
    """Counted from the question; then the server is asked again."""
    await ask(authenticator, clock)
    clock.advance(9.9)
    assert isinstance(authenticator.identify(show(TOKEN), clock.now), Caller)
    clock.advance(0.1)
    parked(authenticator, clock)


async def test_an_answer_never_outlives_the_token(reviewer: FakeReviewer, clock: FakeClock) -> None:
    """However long answers are believed, an expired token is refused."""
    token = make_token(exp=NOW_S + 20)
    reviewer.accounts[token] = authenticated()
    authenticator = make(reviewer, clock, believed_for=timedelta(hours=1))
    await ask(authenticator, clock, token)
    clock.advance(29.9)
    assert isinstance(authenticator.identify(show(token), clock.now), Caller)
    clock.advance(0.1)
    with pytest.raises(Unauthenticated, match="expired"):
        authenticator.identify(show(token), clock.now)


@pytest.mark.parametrize("believed_s", [0, 0.001])
async def test_those_who_waited_see_the_answer_however_short_it_holds(
    reviewer: FakeReviewer, clock: FakeClock, believed_s: float
) -> None:
    """Without believing answers at all, who waited for one is still let in."""
    authenticator = make(reviewer, clock, believed_for=timedelta(seconds=believed_s))
    waiting = parked(authenticator, clock)
    reviewer.gate.clear()
    fetch = asyncio.ensure_future(waiting.fetch())
    await asyncio.sleep(0)
    clock.advance(3)
    reviewer.gate.set()
    await fetch
    clock.advance(1.9)
    assert isinstance(authenticator.identify(show(TOKEN), clock.now), Caller)
    clock.advance(0.1)
    parked(authenticator, clock)


async def test_a_refusal_holds_for_5_seconds(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """A refused token is refused again from memory, then asked about again."""
    reviewer.accounts.clear()
    waiting = parked(authenticator, clock)
    await waiting.fetch()
    for _ in range(3):
        with pytest.raises(Unauthenticated, match="the API server refuses the token"):
            authenticator.identify(show(TOKEN), clock.now)
    clock.advance(4.9)
    with pytest.raises(Unauthenticated):
        authenticator.identify(show(TOKEN), clock.now)
    clock.advance(0.1)
    parked(authenticator, clock)
    assert len(reviewer.asked) == 1


async def test_only_tokens_that_could_pass_reach_the_server(
    reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """Garbage, foreign, expired and misdirected tokens are refused without a call."""
    authenticator = make(reviewer, clock)
    for token in [
        "garbage",
        make_token(iss="x"),
        make_token(aud="vault"),
        make_token(exp=NOW_S - 11),
        make_token(sub="alice", **UNBOUND),
        make_token(algorithm="PS256"),
        "x" * 9000,
    ]:
        with pytest.raises(Unauthenticated):
            authenticator.identify(show(token), clock.now)
    assert reviewer.asked == []


async def test_an_issuer_need_not_be_known(reviewer: FakeReviewer, clock: FakeClock) -> None:
    """The API server knows its issuers; naming one only keeps strangers away earlier."""
    authenticator = make(reviewer, clock)
    authenticator._rules = replace(RULES, issuer=None)
    token = make_token(iss="https://rotated.example")
    reviewer.accounts[token] = authenticated()
    assert (await ask(authenticator, clock, token)).identity.namespace == "foo"


async def test_statement_16_a_server_that_is_away_is_our_fault(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """Nobody is refused for it, and the next caller asks again at once."""
    reviewer.fault = away()
    with pytest.raises(BackendUnavailable):
        await parked(authenticator, clock).fetch()
    reviewer.fault = None
    assert (await ask(authenticator, clock)).identity.namespace == "foo"


async def test_an_answer_for_another_account_is_refused(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """Nobody becomes somebody else because answers were mixed up."""
    for number, other in enumerate(["foo:admin", "foo:zed", "a:bar", "z:bar"]):
        token = make_token(jti=f"{number}")
        reviewer.accounts[token] = authenticated(f"system:serviceaccount:{other}")
        await parked(authenticator, clock, token).fetch()
        with pytest.raises(Unauthenticated, match="another account's"):
            authenticator.identify(show(token), clock.now)


async def test_names_that_kubernetes_could_not_have_given_are_refused(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """Not even the API server makes `FOO` a namespace."""
    username = "system:serviceaccount:FOO:bar"
    token = make_token(sub=username, **UNBOUND)
    reviewer.accounts[token] = authenticated(username)
    await parked(authenticator, clock, token).fetch()
    with pytest.raises(Unauthenticated, match="could not have given"):
        authenticator.identify(show(token), clock.now)


def test_bounds_have_their_defaults(reviewer: FakeReviewer, clock: FakeClock) -> None:
    """As the constructor says: 32 in flight, 1,000 behind them, 10,000 remembered, 5 s, 10 s."""
    made = make(reviewer, clock)
    assert (made._slots._value, made._max_waiting) == (32, 1_000)
    assert made._verdicts._capacity == 10_000
    assert (made._timeout_s, made._believed_for_s) == (5.0, 10.0)


async def test_reviews_in_flight_are_bounded(reviewer: FakeReviewer, clock: FakeClock) -> None:
    """So many at once, so many behind them, and the rest is overload."""
    authenticator = make(reviewer, clock, max_in_flight=2, max_waiting=3)
    reviewer.gate.clear()
    tokens = [make_token(jti=f"{n}") for n in range(6)]
    tasks = []
    for token in tokens:
        reviewer.accounts[token] = authenticated()
        fetch = parked(authenticator, clock, token).fetch()
        tasks.append(asyncio.ensure_future(fetch))
        await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await tasks[5]
    assert caught.value.what == "token_reviews"
    reviewer.gate.set()
    await asyncio.gather(*tasks[:5])
    assert (len(reviewer.asked), reviewer.most_in_flight) == (5, 2)
    assert isinstance(authenticator.identify(show(tokens[4]), clock.now), Caller)


async def test_a_review_that_takes_too_long_is_our_fault(
    reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """The time in the queue counts; a slot that was given up is free again."""
    authenticator = make(reviewer, clock, max_in_flight=1, timeout=timedelta(milliseconds=20))
    reviewer.gate.clear()
    fetches = [
        asyncio.ensure_future(parked(authenticator, clock, make_token(jti=f"{n}")).fetch())
        for n in range(3)
    ]
    for fetch in fetches:
        with pytest.raises(BackendUnavailable, match=r"no token review within 0\.02 s"):
            await fetch
    reviewer.gate.set()
    assert (await ask(authenticator, clock)).identity.namespace == "foo"


async def test_a_probe_says_whether_the_server_answers(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer
) -> None:
    """Before anybody calls, a question with a token that is none proves that we may ask."""
    assert not authenticator.health()[0].ready
    await authenticator.start()
    async with asyncio.timeout(5):
        while not authenticator.health()[0].ready:
            await asyncio.sleep(0)
    assert reviewer.asked == [(PROBE, ("istio-ca",))]
    assert authenticator.health()[0].name == "authn/Kubernetes/token_review"
    await authenticator.aclose()
    assert reviewer.closed


async def test_a_probe_that_fails_says_why(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer
) -> None:
    """Not ready, with the fault in words."""
    reviewer.fault = BackendUnavailable("status 403, our own account may not do this")
    await authenticator.start()
    async with asyncio.timeout(5):
        while "403" not in authenticator.health()[0].detail:
            await asyncio.sleep(0)
    assert not authenticator.health()[0].ready


async def test_readiness_does_not_flap(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """A failure is told at once; not ready it is when nothing was answered for 10 s."""
    await ask(authenticator, clock)
    reviewer.fault = away()
    for _ in range(50):
        with pytest.raises(BackendUnavailable):
            await authenticator._ask("x")
    clock.advance(9.9)
    [health] = authenticator.health()
    assert (health.ready, health.detail) == (True, "connection refused")
    for seconds in [0.1, 1.0]:
        clock.advance(seconds)
        assert not authenticator.health()[0].ready
    reviewer.fault = None
    await ask(authenticator, clock)
    assert authenticator.health()[0].ready


async def test_changes_are_told_once(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """One line when reviews begin to work or to fail, none for each call; no token in them."""
    with capture_logs() as lines:
        await ask(authenticator, clock)
        await authenticator._ask(TOKEN)
        reviewer.fault = away()
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await authenticator._ask(TOKEN)
        reviewer.fault = None
        await authenticator._ask(TOKEN)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("token reviews work", "info"),
        ("token reviews fail", "error"),
        ("token reviews work", "info"),
    ]
    assert lines[1]["problem"] == "connection refused"
    assert all(line["cluster"] == "Kubernetes" for line in lines)
    assert TOKEN not in str(lines)


async def test_probes_are_for_quiet_times(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """Every 30 s unless callers' own reviews were answered meanwhile, every 5 s on failure."""
    watch = authenticator._watch
    assert (watch.is_idle(), watch.probe_pause_s()) == (True, 5.0)
    await ask(authenticator, clock)
    assert (watch.is_idle(), watch.probe_pause_s()) == (False, 30.0)
    assert watch.is_idle()
    reviewer.fault = away()
    with pytest.raises(BackendUnavailable):
        await authenticator._ask(TOKEN)
    assert (watch.is_idle(), watch.probe_pause_s()) == (True, 5.0)


GONE = "[invalid bearer token, service account token has been invalidated]"


async def test_statement_16_a_doubtful_refusal_needs_a_server_that_is_well(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """A token whose pod is not found is refused only while the server's store is there."""
    reviewer.accounts[TOKEN] = refused(GONE)
    reviewer.unready = BackendUnavailable("GET /readyz: status 500")
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="a refusal that is not believed"):
                await parked(authenticator, clock).fetch()
    assert [line["event"] for line in lines] == [
        "token reviews work",
        "API server not ready, doubtful refusals are not believed",
    ]
    parked(authenticator, clock)  # nothing was remembered
    reviewer.unready = None
    await parked(authenticator, clock).fetch()
    with pytest.raises(Unauthenticated, match="its pod is gone"):
        authenticator.identify(show(TOKEN), clock.now)


async def test_statement_16_a_server_that_is_not_ready_itself_is_told(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer
) -> None:
    """It proves most callers, so readiness stays, and says what does not work."""
    reviewer.unready = BackendUnavailable("GET /readyz: status 500")
    await authenticator.start()
    async with asyncio.timeout(5):
        while "status 500" not in authenticator.health()[0].detail:
            await asyncio.sleep(0)
    assert authenticator.health()[0].ready
    assert authenticator._watch.probe_pause_s() == 5.0


async def test_a_server_that_is_away_is_told_as_away_and_not_as_doubtful(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer
) -> None:
    """One fault, one line."""
    reviewer.fault = reviewer.unready = away()
    with capture_logs() as lines:
        await authenticator.start()
        async with asyncio.timeout(5):
            while not lines:
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    assert [line["event"] for line in lines] == ["token reviews fail"]
    assert authenticator.health()[0].detail == "connection refused"


async def test_a_token_with_strange_answers_does_not_make_us_unready(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer, clock: FakeClock
) -> None:
    """The server did answer; only for our own probe such an answer is a failure."""
    await ask(authenticator, clock)
    other = make_token(jti="other")
    reviewer.accounts[other] = reviewer.accounts[PROBE] = refused("teapot")
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="teapot"):
            await parked(authenticator, clock, other).fetch()
        clock.advance(60)
    assert authenticator.health()[0].detail == "the API server answers"
    with pytest.raises(BackendUnavailable):
        await authenticator._ask(PROBE)
    assert "teapot" in authenticator.health()[0].detail


async def test_a_probe_that_died_is_seen(
    authenticator: TokenReviewAuthenticator, reviewer: FakeReviewer
) -> None:
    """A bug in the background does not pass for readiness."""
    reviewer.fault = RuntimeError("a bug")
    await authenticator.start()
    async with asyncio.timeout(5):
        while "stopped" not in authenticator.health()[0].detail:
            await asyncio.sleep(0)
    assert not authenticator.health()[0].ready
