"""Orders at a remote backend: batches, bounds, time, bugs, shutdown."""

import asyncio
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    DeadlinePassed,
    MeshsignerError,
    NotReady,
    Overloaded,
)
from meshsigner.model import BackendLimits, Capabilities, Chain, Leeway
from tests.fakes.pipeline import make_csr
from tests.fakes.remote_ca import FakeRemote, Forgery, Quota, forge
from tests.fakes.signing_world import CSR, KEY, names_of, signing_world, until

BATCHES = BackendLimits(batch=100, in_flight=4, call_s=2.0)


async def test_a_remote_certificate_is_checked_recorded_and_answered() -> None:
    """What a remote backend signed takes the way of every other certificate."""
    remote = FakeRemote()
    async with signing_world(remote) as world:
        chain = await world.issue()
        assert names_of(chain) == ("spiffe://cluster.local/ns/foo/sa/bar", KEY.public_key())
        (row,) = world.inventory.rows
        assert (row.backend, row.serial) == ("remote", f"{chain.serial:x}")
        assert remote.errands[0].order.csr_pem == CSR
        assert len(remote.errands[0].token) == 32


async def test_orders_of_a_turn_become_one_call() -> None:
    """Orders that come together share a call, as many as the backend takes."""
    remote = FakeRemote(limits=BATCHES)
    async with signing_world(remote) as world:
        answers = await world.issue_all([f"foo/bar/{i}" for i in range(60)])
        assert all(isinstance(a, Chain) for a in answers)
        assert len(remote.calls) < 10
        assert sum(remote.calls) == 60


async def test_nobody_gets_anothers_certificate_in_large_batches() -> None:
    """In 1,000 mixed orders over calls of 100 everybody gets the own name and key."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(25)]
    csrs = [make_csr(key) for key in keys]
    remote = FakeRemote(limits=BATCHES)
    async with signing_world(remote) as world:
        asked = [(f"ns{i % 7}/sa{i}/pod{i}", i % 25) for i in range(1_000)]
        chains = await asyncio.gather(*(world.issue(t, csrs[k], lives_s=60) for t, k in asked))
        for (token, key), chain in zip(asked, chains, strict=True):
            namespace, account, _ = token.split("/")
            uri = f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
            assert names_of(chain) == (uri, keys[key].public_key())
        assert len(world.inventory.rows) == 1_000


async def test_calls_under_way_are_bounded() -> None:
    """No more calls run beside each other than the backend stands."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=3))
    remote.delay_s = 0.005
    async with signing_world(remote) as world:
        await world.issue_all([f"foo/bar/{i}" for i in range(30)])
        assert remote.most_in_flight == 3


async def test_starts_keep_the_rate() -> None:
    """Calls start no faster than the backend's limit says."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=8, rate_per_s=20))
    async with signing_world(remote) as world:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await world.issue_all([f"foo/bar/{i}" for i in range(12)])
        assert loop.time() - began_s >= 0.45


async def test_equal_orders_share_a_call_also_a_second_later() -> None:
    """Who asks for the same again while a call is under way joins it, in any second."""
    remote = FakeRemote()
    remote.gate.clear()
    async with signing_world(remote) as world:
        one = world.start()
        await until(lambda: bool(remote.calls))
        world.now += timedelta(seconds=1)
        two = world.start()
        await asyncio.sleep(0.02)
        remote.gate.set()
        assert (await one).serial == (await two).serial
        assert len(remote.calls) == 1


async def test_an_order_that_everybody_gave_up_is_not_sent() -> None:
    """A caller who left before its call costs the backend nothing."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=1))
    remote.gate.clear()
    async with signing_world(remote) as world:
        first = world.start("foo/a/1")
        await until(lambda: bool(remote.calls))
        second = world.start("foo/b/2")
        await asyncio.sleep(0.02)
        second.cancel()
        await asyncio.sleep(0)
        remote.gate.set()
        await first
        await world.issue("foo/c/3")
        sent = [e.order.caller.identity.service_account for e in remote.errands]
        assert sent == ["a", "c"]


async def test_what_was_signed_for_somebody_gone_is_recorded() -> None:
    """A caller that leaves during the call has a row, marked undelivered."""
    remote = FakeRemote()
    remote.gate.clear()
    async with signing_world(remote) as world:
        call = world.start()
        await until(lambda: bool(remote.calls))
        call.cancel()
        await asyncio.sleep(0)
        remote.gate.set()
        await until(lambda: bool(world.inventory.rows))
        assert not world.inventory.rows[0].delivered


async def test_a_call_ends_with_its_own_bound() -> None:
    """A backend that hangs holds nobody longer than a call may take."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=1, call_s=0.1))
    remote.gate.clear()
    async with signing_world(remote) as world:
        with pytest.raises(BackendUnavailable) as caught:
            await world.issue()
        assert caught.value.maybe_issued
        assert remote.cancelled == 1


async def test_an_order_that_cannot_be_answered_in_time_is_not_sent() -> None:
    """Once calls take long, an order with less time left costs none."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=1))
    remote.delay_s = 0.3
    async with signing_world(remote) as world:
        await world.issue("foo/a/1")
        with pytest.raises((DeadlinePassed, Overloaded)):
            await world.issue("foo/b/2", lives_s=0.1)
        assert len(remote.calls) == 1


async def test_a_wait_beyond_the_deadline_is_refused_at_arrival() -> None:
    """Behind a slow backend who cannot be served in time is turned away at once."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=1, rate_per_s=5))
    async with signing_world(remote) as world:
        calls = [world.start(f"foo/bar/{i}", lives_s=3) for i in range(10)]
        await until(lambda: len(remote.calls) >= 3)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        late = await world.issue_all([f"foo/late/{i}" for i in range(20)], lives_s=3)
        refused = [answer for answer in late if isinstance(answer, Overloaded)]
        assert refused
        assert {error.what for error in refused} == {"queue_wait"}
        assert loop.time() - began_s < 4
        await asyncio.gather(*calls, return_exceptions=True)


async def test_an_error_of_one_order_is_its_own() -> None:
    """In one call an order that is refused fails alone."""
    remote = FakeRemote(limits=BATCHES)
    no = BackendRefused("the role does not allow this")
    remote.adversary = lambda chains, errands: [
        no if e.order.caller.identity.service_account == "bad" else c
        for c, e in zip(chains, errands, strict=True)
    ]
    async with signing_world(remote) as world:
        answers = await world.issue_all(["foo/good/1", "foo/bad/2", "foo/fine/3"])
        assert [type(a) for a in answers] == [Chain, BackendRefused, Chain]


async def test_a_bug_in_a_backend_reaches_its_callers_and_nobody_else() -> None:
    """An undocumented error of a call is told to its callers, and the next call works."""
    remote = FakeRemote(limits=BATCHES)
    remote.bug = ZeroDivisionError()
    async with signing_world(remote) as world:
        answers = await world.issue_all(["foo/a/1", "foo/b/2"])
        assert {type(a) for a in answers} == {MeshsignerError}
        assert all(isinstance(a.__cause__, ZeroDivisionError) for a in answers)  # type: ignore[union-attr]
        remote.bug = None
        await world.issue("foo/a/1")


async def test_what_certainly_issued_nothing_is_repeated() -> None:
    """A connection that was refused is tried again within the caller's time."""
    remote = FakeRemote()
    remote.faults = [BackendUnavailable("connection refused")] * 2
    async with signing_world(remote) as world:
        await world.issue()
        assert len(remote.calls) == 3
        assert world.sample("meshsigner_backend_call_retries_total", backend="remote") == 2


async def test_a_refusal_is_not_repeated() -> None:
    """No is an answer."""
    remote = FakeRemote()
    remote.faults = [BackendRefused("no")]
    async with signing_world(remote) as world:
        with pytest.raises(BackendRefused):
            await world.issue()
        assert len(remote.calls) == 1


async def test_what_may_have_issued_is_not_repeated_blindly() -> None:
    """Without a token or a look-up a lost answer ends in UNAVAILABLE, after one call."""
    remote = FakeRemote()
    remote.lost = 1
    async with signing_world(remote) as world:
        with pytest.raises(BackendUnavailable):
            await world.issue()
        assert len(remote.calls) == 1


async def test_what_may_have_issued_is_repeated_with_its_token() -> None:
    """Where a token makes it the same call, a lost answer is asked for again."""
    remote = FakeRemote(capabilities=Capabilities(builds_x509=True, idempotent=True))
    remote.lost = 2
    async with signing_world(remote) as world:
        chain = await world.issue()
        assert len(remote.calls) == 3
        assert list(remote.issued.values()) == [chain]


async def test_what_may_have_issued_is_looked_up() -> None:
    """Where the CA can tell, a lost answer is found instead of asked for again."""
    remote = FakeRemote(capabilities=Capabilities(builds_x509=True, finds=True))
    remote.lost = 1
    async with signing_world(remote) as world:
        chain = await world.issue()
        assert remote.calls == [1]
        assert remote.looked_up == [remote.errands[0].token]
        assert list(remote.issued.values()) == [chain]


async def test_a_throttle_of_the_backend_lowers_the_rate() -> None:
    """When the CA says it is too much, calls come slower, and everybody is served."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=4))
    remote.quota = Quota(per_s=10)
    async with signing_world(remote) as world:
        answers = await world.issue_all([f"foo/bar/{i}" for i in range(25)])
        assert all(isinstance(a, Chain) for a in answers), answers
        assert 0 < world.sample("meshsigner_backend_rate_limit_per_second", backend="remote") < 50
        assert remote.quota.refused < 40


async def test_shutdown_finishes_calls_within_its_grace() -> None:
    """A call under way at shutdown is answered and recorded."""
    remote = FakeRemote()
    remote.delay_s = 0.1
    async with signing_world(remote) as world:
        call = world.start()
        await until(lambda: bool(remote.calls))
        await world.issuance.drain(2)
        assert isinstance(await call, Chain)
        assert len(world.inventory.rows) == 1


async def test_shutdown_gives_up_calls_after_its_grace() -> None:
    """A call that does not end is given up, and its caller told so."""
    remote = FakeRemote()
    remote.gate.clear()
    async with signing_world(remote) as world:
        calls = [world.start(f"foo/bar/{i}") for i in range(20)]
        await until(lambda: bool(remote.calls))
        await world.issuance.drain(0.05)
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ended} == {NotReady}
        assert remote.cancelled == remote.in_flight + remote.cancelled == 8


async def test_a_validity_within_the_leeway_is_taken_into_the_record() -> None:
    """A CA that begins at the issue and caps the end is believed as far as its leeway goes."""
    leeway = Leeway(backdate=timedelta(minutes=1), shorten=True)
    remote = FakeRemote(capabilities=Capabilities(builds_x509=True, leeway=leeway))
    how = Forgery(before=timedelta(minutes=1, seconds=30), after=-timedelta(hours=1))
    key = remote.signer.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    remote.adversary = lambda chains, errands: [
        forge(c, e, key, how) for c, e in zip(chains, errands, strict=True)
    ]
    async with signing_world(remote) as world:
        await world.issue()
        (row,) = world.inventory.rows
        assert row.not_after - row.not_before == timedelta(hours=23, seconds=30)
        assert world.calls[0].line["not_after"] == row.not_after.isoformat()
