"""The life of a certificate: obtained, renewed, kept over failures, expired."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs
from structlog.typing import EventDict

from meshsigner.agent.ca_client import CallFailed
from meshsigner.agent.keys import KeyType, build_csr, make_key
from meshsigner.agent.life import Life, Wish
from meshsigner.agent.schedule import Timing
from meshsigner.agent.secrets import SecretStore, Svid
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.spiffe import SpiffeId
from tests.fakes.workload_ca import Change, FakeCa, fresh_ca, make_svid
from tests.wire.harness import until

IDENTITY = SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/productpage")
OTHER = SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/reviews")
SOON = Timing(grace_ratio=0.9, grace_jitter=0.0, spread=timedelta(0))  # of 2 s: after 0.2 s
AWAY = CallFailed("UNAVAILABLE", "nobody there")


@dataclass
class FakeKeeper:
    """Keeps certificates in memory.

    Attributes:
        kept: All of them.
        restored: What is read back at the start.
        fails: True when nothing can be written.
    """

    kept: list[Svid] = field(default_factory=list)
    restored: Svid | None = None
    fails: bool = False

    def restore(self, now: datetime) -> Svid | None:
        """Return what a test put here."""
        assert now.tzinfo is UTC
        return self.restored

    def keep(self, svid: Svid) -> None:
        """Keep it, or fail."""
        if self.fails:
            raise OSError(28, "No space left on device")
        self.kept.append(svid)


@dataclass(kw_only=True)
class World:
    """A life and what it lives in.

    Attributes:
        ca: Issues.
        keeper: Keeps.
        store: Serves.
        metrics: Counts.
        life: Under test.
        served: Every certificate that was served, in order, None for none.
    """

    ca: FakeCa
    keeper: FakeKeeper
    store: SecretStore
    metrics: AgentMetrics
    life: Life
    served: list[Svid | None] = field(default_factory=list)

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample's value, 0 when there is none."""
        labels = {"workload": "productpage", **labels}
        return self.metrics.registry.get_sample_value(name, labels) or 0


def _world(timing: Timing = SOON, key_type: KeyType = KeyType.P256) -> World:
    ca, keeper, store = FakeCa(), FakeKeeper(), SecretStore(IDENTITY)
    metrics = AgentMetrics(["productpage"])
    life = Life(
        Wish(workload="productpage", key_type=key_type, lifetime=timedelta(hours=1)),
        store=store,
        ca=ca,
        timing=timing,
        keeper=keeper,
        metrics=metrics,
        clock=lambda: datetime.now(UTC),
        random=random.Random(1).random,  # noqa: S311 - jitter
    )
    world = World(ca=ca, keeper=keeper, store=store, metrics=metrics, life=life)
    store.listen(lambda: world.served.append(store.svid))
    return world


@asynccontextmanager
async def _living(world: World) -> AsyncIterator[World]:
    """Let it live for the time of a test."""
    task = asyncio.create_task(world.life.run())
    try:
        yield world
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _obtained(world: World, count: int = 1) -> None:
    await until(lambda: len([svid for svid in world.served if svid]) >= count)


def _events(logs: list[EventDict]) -> set[str]:
    return {line["event"] for line in logs}


async def test_first_certificate_is_obtained_at_once() -> None:
    """A CSR for the own identity, an answer that passes its check, a secret that is served."""
    async with _living(_world()) as world:
        await _obtained(world)
    san = world.ca.csrs[0].extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.value.get_values_for_type(x509.UniformResourceIdentifier) == [str(IDENTITY)]
    assert world.ca.asked_s[0] == 3600
    svid = world.store.svid
    assert svid is not None
    leaf, *rest = x509.load_pem_x509_certificates(svid.chain_pem)
    assert load_pem_private_key(svid.key_pem, None).public_key() == leaf.public_key()
    assert [ca.subject.rfc4514_string() for ca in rest] == ["CN=issuing"]
    assert svid.roots_pem == world.ca.roots[0].pem
    assert world.life.health().ready


@pytest.mark.parametrize(
    ("kind", "label"), [(KeyType.P256, b"EC PRIVATE KEY"), (KeyType.RSA2048, b"RSA PRIVATE KEY")]
)
async def test_key_is_of_the_wished_kind(kind: KeyType, label: bytes) -> None:
    """P-256 or RSA, as configured."""
    async with _living(_world(key_type=kind)) as world:
        await _obtained(world)
    assert world.store.svid is not None
    assert label in world.store.svid.key_pem


async def test_certificate_is_renewed_in_its_life_with_a_new_key() -> None:
    """Renewal comes while the old one is valid, and no key is used twice."""
    world = _world()
    world.ca.lifetime = timedelta(seconds=3)
    async with _living(world):
        await _obtained(world, 3)
    assert None not in world.served
    keys = {
        csr.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for csr in world.ca.csrs
    }
    assert len(keys) == len(world.ca.csrs)


async def test_failure_keeps_the_old_certificate() -> None:
    """It is served on, the try is repeated, and the log says everything in one line."""
    world = _world()
    world.ca.lifetime = timedelta(seconds=5)
    world.ca.script = [None, AWAY, AWAY, None]
    with capture_logs() as logs:
        async with _living(world):
            await until(lambda: world.life.last_failure != "")
            health = world.life.health()
            await _obtained(world, 2)
    assert health.ready
    assert "the last try failed: UNAVAILABLE: nobody there" in health.detail
    assert world.life.last_failure == ""
    lines = [line for line in logs if line["event"] == "no certificate obtained"]
    assert [line["code"] for line in lines] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert lines[0]["serving_until"] == world.served[0].not_after  # type: ignore[union-attr]
    assert world.metric("meshsigner_agent_certificate_failures_total", code="UNAVAILABLE") == 2
    assert world.metric("meshsigner_agent_certificates_obtained_total") == 2


async def test_statement_68_ca_that_is_away_at_start_is_asked_until_it_is_there() -> None:
    """There is nothing to serve, which health says, until there is."""
    world = _world()
    world.ca.script = [AWAY, CallFailed("UNAUTHENTICATED", "request authenticate failure"), None]
    async with _living(world):
        await until(lambda: len(world.ca.csrs) == 2)
        await until(lambda: "UNAUTHENTICATED" in world.life.last_failure)
        assert not world.life.health().ready
        assert "request authenticate failure" in world.life.health().detail
        await _obtained(world)
    assert world.metric("meshsigner_agent_certificate_failures_total", code="UNAUTHENTICATED") == 1


def test_health_before_the_first_answer_says_so() -> None:
    """Nothing has failed yet, and nothing is there."""

    async def look() -> str:
        return _world().life.health().detail

    assert asyncio.run(look()) == "the first certificate is being obtained"


def _of_another_workload(_: tuple[str, ...]) -> tuple[str, ...]:
    csr_pem = build_csr(make_key(KeyType.P256), str(OTHER))
    return FakeCa().issue(x509.load_pem_x509_csr(csr_pem), timedelta(hours=1))


WRONG: Sequence[tuple[Change, str]] = [
    (lambda answer: answer[:1], "1 elements"),
    (lambda answer: ("junk", *answer[1:]), "no PEM certificate"),
    (lambda answer: (*answer[:-1], fresh_ca("foreign").pem.decode()), "does not end in a root"),
    (lambda answer: (answer[0], answer[2]), "does not end in a root"),
    (_of_another_workload, "another key"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=[words for _, words in WRONG])
async def test_statement_67_wrong_answer_never_reaches_envoy(change: Change, words: str) -> None:
    """What is not what was asked for is refused, told, and asked for again."""
    world = _world()
    world.ca.script = [change, None]
    with capture_logs() as logs:
        async with _living(world):
            await _obtained(world)
    (line,) = [line for line in logs if line["event"] == "no certificate obtained"]
    assert line["code"] == "WRONG_ANSWER"
    assert words in line["cause"]
    assert len([svid for svid in world.served if svid]) == 1
    assert world.metric("meshsigner_agent_certificate_failures_total", code="WRONG_ANSWER") == 1


async def test_expired_certificate_is_withdrawn() -> None:
    """Not a second longer than it is valid, and the log raises an alarm."""
    world = _world()
    world.ca.lifetime = timedelta(seconds=1)
    world.ca.script = [None, *[AWAY] * 20]
    with capture_logs() as logs:
        async with _living(world):
            await until(lambda: world.served[-1:] == [None])
            assert not world.life.health().ready
    assert "certificate expired, it is not served any more" in _events(logs)
    assert world.metric("meshsigner_agent_certificate_expiry_timestamp_seconds") == 0


async def test_certificate_expires_while_the_ca_hangs() -> None:
    """A renewal that waits for an answer does not keep the old one alive."""
    world = _world()
    world.ca.lifetime = timedelta(seconds=1)
    async with _living(world):
        await _obtained(world)
        world.ca.gate.clear()
        await until(lambda: world.served[-1:] == [None])
        world.ca.gate.set()
        await until(lambda: world.served[-1] is not None)


async def test_changed_roots_are_served_and_told() -> None:
    """During a rotation the CA sends both roots, and so does the agent."""
    world = _world()
    world.ca.lifetime = timedelta(seconds=3)
    with capture_logs() as logs:
        async with _living(world):
            await _obtained(world)
            new = fresh_ca("new root")
            world.ca.roots = [*world.ca.roots, new]
            await _obtained(world, 2)
    assert world.store.roots_pem == b"".join(root.pem for root in world.ca.roots)
    assert "roots changed" in _events(logs)


async def test_each_root_is_served_once() -> None:
    """A bundle that repeats itself would only make every handshake larger."""
    world = _world()
    world.ca.roots = [*world.ca.roots, *world.ca.roots]
    async with _living(world):
        await _obtained(world)
    assert world.store.roots_pem == world.ca.roots[0].pem


async def test_root_among_the_intermediates_is_not_presented() -> None:
    """Who verifies has the root, or does not trust it: it is of no use in a handshake."""
    world = _world()
    world.ca.intermediates = [world.ca.issuer, world.ca.roots[0]]
    async with _living(world):
        await _obtained(world)
    assert world.store.svid is not None
    assert len(x509.load_pem_x509_certificates(world.store.svid.chain_pem)) == 2


async def test_renewal_can_be_called_for() -> None:
    """A root change does not wait for half of the life."""
    world = _world(Timing(spread=timedelta(0)))
    async with _living(world):
        await _obtained(world)
        assert len(world.ca.csrs) == 1
        world.life.renew()
        await _obtained(world, 2)


async def test_renewal_that_is_called_for_is_spread() -> None:
    """Not everybody at once: at random within the spread."""
    world = _world(Timing(spread=timedelta(seconds=60)))
    async with _living(world):
        await _obtained(world)
        now = datetime.now(UTC)
        world.life.renew()
        assert now < world.life.due_at < now + timedelta(seconds=61)


async def test_certificate_is_kept() -> None:
    """What is served is also kept for the next start."""
    async with _living(_world()) as world:
        await until(lambda: world.keeper.kept != [])
    assert world.keeper.kept[0] == world.served[0]


async def test_certificate_that_cannot_be_kept_is_served_all_the_same() -> None:
    """A full disk takes nobody's identity away; the log says it."""
    world = _world()
    world.keeper.fails = True
    with capture_logs() as logs:
        async with _living(world):
            await _obtained(world)
            await until(lambda: "certificate files not written" in _events(logs))
    assert world.store.svid is not None


async def test_restored_certificate_is_served_without_asking() -> None:
    """A restart costs the CA nothing while there is life left."""
    world = _world(Timing())
    world.keeper.restored = make_svid()
    async with _living(world):
        await _obtained(world)
        await asyncio.sleep(0.05)
        assert world.ca.csrs == []
        assert world.life.due_at > datetime.now(UTC)


async def test_old_restored_certificate_is_served_and_renewed() -> None:
    """Past half of its life it is renewed at once, and served until then."""
    world = _world(Timing())
    now = datetime.now(UTC)
    svid = make_svid()
    world.keeper.restored = Svid(
        key_pem=svid.key_pem,
        chain_pem=svid.chain_pem,
        roots_pem=svid.roots_pem,
        serial="old",
        not_before=now - timedelta(hours=10),
        not_after=now + timedelta(hours=1),
        taken_at=now - timedelta(hours=10),
    )
    async with _living(world):
        await _obtained(world, 2)
    assert next(svid.serial for svid in world.served if svid) == "old"


async def test_bug_ends_the_life() -> None:
    """What nobody foresaw is not swallowed: the process ends, and is started again."""
    world = _world()

    async def broken(csr_pem: str, lifetime_s: int) -> tuple[str, ...]:
        del csr_pem, lifetime_s
        raise ZeroDivisionError

    world.ca.create_certificate = broken  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup) as caught:
        await world.life.run()
    assert caught.group_contains(ZeroDivisionError)
