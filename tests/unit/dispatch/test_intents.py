"""A costly CA: what it may have issued is never asked for a second time blindly."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from meshsigner.errors import BackendUnavailable, DeadlinePassed, NotReady, RecordFailed
from meshsigner.model import BackendLimits, Capabilities, Chain
from tests.fakes.pipeline import MemoryInventory, make_csr
from tests.fakes.remote_ca import FakeRemote
from tests.fakes.signing_world import KEY, names_of, signing_world, until

QUICK = BackendLimits(batch=1, in_flight=2, call_s=0.15)
PLAIN = Capabilities(builds_x509=True, intents=True)
IDEMPOTENT = replace(PLAIN, idempotent=True)
FINDING = replace(PLAIN, finds=True)


async def test_the_intent_is_committed_before_the_call_and_settled_after_the_row() -> None:
    """The store knows of a call before the CA does, and forgets it once there is a row."""
    costly = FakeRemote("costly", capabilities=PLAIN)
    costly.gate.clear()
    async with signing_world(costly) as world:
        call = world.start()
        await until(lambda: bool(costly.calls))
        (intent,) = world.inventory.intents.values()
        assert intent.token == costly.errands[0].token
        assert intent.draft.identity == "spiffe://cluster.local/ns/foo/sa/bar"
        assert intent.draft.serial == ""
        assert world.sample("meshsigner_backend_open_intents", backend="costly") == 1
        costly.gate.set()
        await call
        await until(lambda: world.sample("meshsigner_backend_open_intents", backend="costly") == 0)
    assert world.inventory.intents == {}


async def test_a_store_that_cannot_write_means_no_call() -> None:
    """Without a committed intent the CA is not asked."""
    costly = FakeRemote("costly", capabilities=PLAIN)
    async with signing_world(costly) as world:
        world.inventory.fault = RecordFailed("disk full")
        with pytest.raises(RecordFailed):
            await world.issue()
        assert costly.calls == []
        world.inventory.fault = None
        await world.issue()


async def test_a_time_out_after_the_issue_does_not_issue_twice() -> None:
    """With a token a lost answer is asked for again in the same call, and costs one certificate."""
    costly = FakeRemote("costly", capabilities=IDEMPOTENT, limits=QUICK)
    costly.lost = 2
    async with signing_world(costly) as world:
        chain = await world.issue()
        assert list(costly.issued.values()) == [chain]
        assert len({errand.token for errand in costly.errands}) == 1
        assert len(world.inventory.rows) == 1


@pytest.mark.parametrize("capabilities", [IDEMPOTENT, FINDING])
async def test_who_asks_again_with_the_same_csr_gets_the_lost_certificate(
    capabilities: Capabilities,
) -> None:
    """After a call that failed for its caller the next one with that CSR costs nothing new."""
    costly = FakeRemote("costly", capabilities=capabilities, limits=QUICK)
    costly.lost, costly.blind = 100, True
    async with signing_world(costly) as world:
        with pytest.raises((BackendUnavailable, DeadlinePassed)):
            await world.issue(lives_s=0.4)
        assert len(costly.issued) == 1
        assert world.inventory.rows == []
        costly.lost = 0
        costly.blind = False
        await asyncio.sleep(0.3)
        chain = await world.issue()
        assert list(costly.issued.values()) == [chain]
        assert [row.serial for row in world.inventory.rows] == [f"{chain.serial:x}"]
        again = await world.issue()
        assert again.serial != chain.serial


async def test_without_token_or_look_up_nobody_asks_again_until_its_life_is_over() -> None:
    """Where nothing can be found out, the same CSR is refused, another one is not."""
    costly = FakeRemote("costly", capabilities=PLAIN, limits=QUICK)
    costly.lost = 1
    async with signing_world(costly) as world:
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await world.issue()
        assert len(costly.calls) == 1
        other = make_csr(KEY, "spiffe://cluster.local/ns/foo/sa/bar")
        await world.issue(csr_pem=other)
        world.now += timedelta(hours=25)
        await world.issue()
        assert len(costly.calls) == 3


async def test_an_order_in_doubt_goes_to_no_other_backend() -> None:
    """While a lost certificate is open, its order is for its CA alone, whoever else could sign."""
    costly = FakeRemote("costly", capabilities=PLAIN, limits=QUICK)
    other = FakeRemote("other")
    costly.lost = 1
    async with signing_world(costly, other) as world:
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                await world.issue()
        assert other.calls == []
        costly.ready = False
        await world.issue("foo/another/2")
        assert other.calls == [1]


async def test_what_certainly_issued_nothing_leaves_no_intent() -> None:
    """A refused connection settles the intent, and the order goes to the substitute."""
    costly = FakeRemote("costly", capabilities=PLAIN)
    costly.faults = [BackendUnavailable("connection refused")]
    other = FakeRemote("other")
    async with signing_world(costly, other) as world:
        assert (await world.issue()).backend == "other"
        assert world.sample("meshsigner_backend_open_intents", backend="costly") == 0


async def test_a_certificate_that_could_not_be_recorded_is_withheld_and_found_again() -> None:
    """The store fails after the issue: nothing leaves, and the next call gets that certificate."""
    costly = FakeRemote("costly", capabilities=IDEMPOTENT)
    costly.gate.clear()
    async with signing_world(costly) as world:
        call = world.start()
        await until(lambda: bool(costly.calls))
        world.inventory.fault = RecordFailed("disk full")
        costly.gate.set()
        with pytest.raises(RecordFailed):
            await call
        world.inventory.fault = None
        chain = await world.issue()
        assert list(costly.issued.values()) == [chain]


async def test_the_next_process_records_what_the_last_one_lost() -> None:
    """A process that ends before the row leaves an intent, and the next finds the certificate."""
    inventory = MemoryInventory()
    costly = FakeRemote("costly", capabilities=FINDING, limits=replace(QUICK, call_s=5))
    costly.lost = 1
    costly.blind = True
    async with signing_world(costly, inventory=inventory) as world:
        with pytest.raises(BackendUnavailable):
            await world.issue()
    assert len(inventory.intents) == 1
    costly.blind = False
    async with signing_world(costly, inventory=inventory) as world:
        assert not await world.issuance.recovery.start()
        (row,) = inventory.rows
        (chain,) = costly.issued.values()
        assert row.certificate_der == chain.leaf_der
        assert not row.delivered
        assert row.identity == "spiffe://cluster.local/ns/foo/sa/bar"
        assert row.csr_sha256 == costly.errands[0].order.request.csr_sha256.hex()
        assert names_of(await world.issue()) == (row.identity, KEY.public_key())


async def test_a_start_with_the_ca_away_keeps_its_intents_and_serves() -> None:
    """What cannot be found out at start stays open, is tried again, and holds nobody else up."""
    inventory = MemoryInventory()
    costly = FakeRemote("costly", capabilities=FINDING)
    costly.lost = 1
    costly.blind = True
    async with signing_world(costly, inventory=inventory) as world:
        with pytest.raises(BackendUnavailable):
            await world.issue()
    async with signing_world(costly, inventory=inventory) as world:
        assert await world.issuance.recovery.start()
        await world.issue("foo/another/2")
        with pytest.raises(BackendUnavailable):
            await world.issue()
        costly.blind = False
        await world.issuance.recovery.look()
        assert len(inventory.rows) == 2
        assert isinstance(await world.issue(), Chain)


async def test_a_call_given_up_at_shutdown_stays_open() -> None:
    """What was under way when the grace ended is looked after by the next process."""
    costly = FakeRemote("costly", capabilities=PLAIN)
    costly.gate.clear()
    inventory = MemoryInventory()
    async with signing_world(costly, inventory=inventory) as world:
        call = world.start()
        await until(lambda: bool(costly.calls))
        await world.issuance.drain(0.02)
        with pytest.raises(NotReady):
            await call
    assert [intent.token for intent in inventory.intents.values()] == [costly.errands[0].token]
