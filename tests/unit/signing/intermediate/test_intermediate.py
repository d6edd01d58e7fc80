"""Tests of the intermediate mode over a CA in memory: when it asks, what it takes, who signs."""

import asyncio
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.csr import parse_csr
from meshsigner.errors import BackendUnavailable, ConfigurationError, NotReady, Overloaded
from meshsigner.model import Order
from meshsigner.policy import authorize
from meshsigner.signing.intermediate.keeper import IntermediateKeeper, Plan
from meshsigner.signing.intermediate.keys import with_new_key
from meshsigner.signing.intermediate.signer import IntermediateSigner
from meshsigner.signing.intermediate.store import FileStore, MemoryStore, Store
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import CaFiles
from meshsigner.verify import check_issued
from tests.fakes.authority import NOW, make_ca, make_key
from tests.fakes.ca_above import FakeCaAbove
from tests.fakes.pipeline import make_caller, make_csr, make_policy

ROOT = make_ca("root")
LIFE = timedelta(hours=10)


class World:
    """A clock, a CA above, and processes that share a directory or do not.

    Attributes:
        now: The time.
        above: The CA above.
        renewals: Attempts so far, by whether they succeeded.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.now = NOW
        self.above = FakeCaAbove(root=ROOT, clock=lambda: self.now)
        self.renewals = {True: 0, False: 0}
        self._directory = directory

    def _count(self, *, taken: bool) -> None:
        self.renewals[taken] += 1

    def process(self, **changes: Any) -> IntermediateSigner:
        """Return the backend of one worker."""
        store: Store[CaFiles] = FileStore(self._directory) if self._directory else MemoryStore()
        values: dict[str, Any] = {
            "lifetime": LIFE,
            "renew_at": 0.5,
            "prepare": with_new_key(lambda: ec.generate_private_key(ec.SECP256R1())),
            "roots": (),
            "trust_domain": TrustDomain.parse("cluster.local"),
            **changes,
        }

        def make_keeper(taken: Callable[[CaFiles], None]) -> IntermediateKeeper[CaFiles]:
            return IntermediateKeeper(
                name="short",
                source=self.above,
                store=store,
                plan=Plan(**values),
                clock=lambda: self.now,
                taken=taken,
                counted=self._count,
                first_pause_s=0.0,
            )

        return IntermediateSigner(name="short", source=self.above, make_keeper=make_keeper)


def order_of(signer: IntermediateSigner, now: datetime) -> Order:
    """Return an order under a signer's issuer."""
    issuer, caller = signer.issuer(now), make_caller()
    request = parse_csr(make_csr(make_key("p256", 5), caller.identity.uri))
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=None,
        policy=make_policy(),
        now=now,
        issuer_not_after=issuer.not_after,
    )
    return Order(
        caller=caller, request=request, terms=terms, cert_signer="", issuer=issuer, peer="test"
    )


async def test_one_request_many_leaves() -> None:
    """One intermediate is asked for; leaves are signed here and never outlive it."""
    world = World()
    signer = world.process()
    await signer.start()
    for _ in range(10):
        order = order_of(signer, NOW)
        check_issued(signer.sign(order), order)
        assert order.terms.not_after == signer.issuer(NOW).not_after
    await signer.aclose()
    assert len(world.above.asked) == 1
    assert signer.issuer(NOW).trust_bundle.certificates == (ROOT.certificate,)
    assert (world.above.started, world.above.closed) == (True, True)


async def test_renewal_at_its_share_of_life() -> None:
    """Not before half of its life; then with a new key, and the old one signs what it began."""
    world = World()
    signer = world.process()
    await signer.start()
    first = signer.issuer(NOW)
    world.now = NOW + LIFE / 2 - timedelta(minutes=1)
    await signer.look()
    assert signer.issuer(world.now) is first
    pending = order_of(signer, world.now)
    world.now = NOW + LIFE / 2 + timedelta(minutes=1)
    await signer.look()
    second = signer.issuer(world.now)
    assert second.certificate.public_key() != first.certificate.public_key()
    assert check_issued(signer.sign(pending), pending).issuer is first
    world.now += LIFE / 2 + timedelta(minutes=1)
    await signer.look()
    with pytest.raises(NotReady, match="replaced"):
        signer.sign(pending)
    await signer.aclose()


async def test_ca_that_is_away_leaves_the_old_one() -> None:
    """A failed renewal is counted and told, in danger from three quarters on, until the end."""
    world = World()
    signer = world.process()
    await signer.start()
    world.above.error = BackendUnavailable("away")
    world.now = NOW + LIFE * 0.6
    await signer.look()
    assert "its renewal is due: away" in signer.health(world.now).detail
    world.now = NOW + LIFE * 0.8
    await signer.look()
    health = signer.health(world.now)
    assert health.ready
    assert "its renewal is in danger: away" in health.detail
    order = order_of(signer, world.now)
    check_issued(signer.sign(order), order)
    world.now = NOW + LIFE + timedelta(seconds=1)
    assert not signer.health(world.now).ready
    with pytest.raises(NotReady, match="expired"):
        signer.issuer(world.now)
    world.above.error = None
    await signer.look()
    assert signer.health(world.now).ready
    await signer.aclose()
    assert world.renewals[True] == 2
    assert world.renewals[False] >= 2


async def test_start_without_the_ca_above() -> None:
    """A CA that is away at the start is no error: there is no issuer until it is back."""
    world = World()
    world.above.error = Overloaded("quota", retry_after_s=0.0)
    signer = world.process()
    await signer.start()
    with pytest.raises(NotReady, match="quota"):
        signer.issuer(NOW)
    assert not signer.health(NOW).ready
    world.above.error = None
    await signer.look()
    assert signer.issuer(NOW).not_after > NOW
    await signer.aclose()


async def test_pauses_between_attempts() -> None:
    """After a failure nobody asks again at once."""
    world = World()
    world.above.error = Overloaded("quota", retry_after_s=60.0)
    signer = world.process()
    await signer.start()
    for _ in range(5):
        await signer.look()
    await signer.aclose()
    assert len(world.above.asked) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"path_length": None}, "expected path length 0"),
        ({"path_length": 1}, "expected path length 0"),
        ({"key": make_ca("somebody")}, "another key"),
        ({"with_root": False}, "roots_file"),
    ],
)
async def test_odd_answer_is_not_taken(change: dict[str, Any], text: str) -> None:
    """A CA below, another key, no root: told, and nothing signs with it."""
    world = World()
    for name, value in change.items():
        setattr(world.above, name, value)
    signer = world.process()
    await signer.start()
    with pytest.raises(NotReady, match=text):
        signer.issuer(NOW)
    await signer.aclose()


async def test_roots_are_pinned() -> None:
    """An intermediate under another root never follows, nor at a start beside other workers."""
    world = World()
    signer = world.process()
    await signer.start()
    before = signer.issuer(NOW)
    world.above.root = make_ca("stranger")
    world.now = NOW + LIFE * 0.6
    await signer.look()
    assert signer.issuer(world.now) is before
    assert "of the bundle" in signer.health(world.now).detail
    late = world.process(announced=(ROOT.certificate,))
    await late.start()
    with pytest.raises(NotReady, match="never announced"):
        late.issuer(world.now)
    named = world.process(roots=(ROOT.certificate,))
    await named.start()
    with pytest.raises(NotReady, match="of the bundle"):
        named.issuer(world.now)
    for one in (signer, late, named):
        await one.aclose()


async def test_files_survive_a_restart_and_are_shared(tmp_path: Path) -> None:
    """Kept in files, a second process and a later one ask nobody; the key's mode is 0600."""
    world = World(tmp_path / "ca")
    first, second = world.process(), world.process()
    await first.start()
    await second.start()
    world.now = NOW + LIFE * 0.6
    await _agree(world, first, second)
    world.above.error = BackendUnavailable("away")
    later = world.process()
    await later.start()
    assert later.issuer(world.now).certificate == first.issuer(world.now).certificate
    order = order_of(later, world.now)
    check_issued(later.sign(order), order)
    for one in (first, second, later):
        await one.aclose()
    assert len(world.above.asked) == 2
    mode = stat.S_IMODE((tmp_path / "ca" / "ca-key.pem").stat().st_mode)
    assert mode == 0o600


async def _agree(world: World, *workers: IntermediateSigner) -> None:
    """Wait until all have the next intermediate."""
    async with asyncio.timeout(5.0):
        while {worker.issuer(world.now).generation for worker in workers} != {2}:
            for worker in workers:
                await worker.look()
    assert len({worker.issuer(world.now).certificate for worker in workers}) == 1


async def test_who_holds_the_lock_renews(tmp_path: Path) -> None:
    """While another process renews, nobody else asks."""
    world = World(tmp_path / "ca")
    signer = world.process()
    with FileStore(tmp_path / "ca").renewing() as ours:
        assert ours
        await signer.start()
        with FileStore(tmp_path / "ca").renewing() as too:
            assert not too
    assert world.above.asked == []
    await signer.look()
    assert len(world.above.asked) == 1
    await signer.aclose()


async def test_damaged_or_expired_files_are_asked_for_anew(tmp_path: Path) -> None:
    """What is kept and cannot be used is replaced, not used and not fatal."""
    world = World(tmp_path / "ca")
    one = world.process()
    await one.start()
    before = one.issuer(NOW)
    await one.aclose()
    (tmp_path / "ca" / "cert-chain.pem").resolve().write_text("damaged")
    two = world.process()
    await two.start()
    assert two.issuer(NOW).certificate != before.certificate
    await two.aclose()
    world.now = NOW + LIFE * 2
    three = world.process()
    await three.start()
    assert three.issuer(world.now).not_after > world.now
    await three.aclose()


async def test_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Without a place for the files there is no intermediate, and health says why."""
    (tmp_path / "file").write_text("")
    world = World(tmp_path / "file" / "ca")
    signer = world.process()
    await signer.start()
    with pytest.raises(NotReady, match="cannot be"):
        signer.issuer(NOW)
    await signer.aclose()
    with (
        pytest.raises(ConfigurationError, match="cannot be"),
        FileStore(tmp_path / "file" / "ca").renewing(),
    ):
        pass


async def test_announced_roots_stand_behind_its_own() -> None:
    """The mesh's other roots follow its own, for this intermediate and the next."""
    world, other = World(), make_ca("other")
    signer = world.process()
    await signer.start()
    signer.announce([other.certificate])
    bundle = (ROOT.certificate, other.certificate)
    assert signer.issuer(NOW).trust_bundle.certificates == bundle
    world.now = NOW + LIFE * 0.6
    await signer.look()
    assert signer.issuer(world.now).trust_bundle.certificates == bundle
    await signer.aclose()
