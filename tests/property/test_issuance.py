"""Whatever happens around a turn, nobody hangs, nothing is mixed up, nothing unrecorded leaves."""

import asyncio
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsigner.batch import GatherLimits
from meshsigner.errors import MeshsignerError, RecordFailed
from meshsigner.issuance import Issuance, IssuanceLimits
from meshsigner.model import Chain
from meshsigner.observe.metrics import Metrics
from meshsigner.orders import QueueLimits
from meshsigner.recorder import Recorder
from tests.fakes.pipeline import (
    NOW,
    FakeAuthenticator,
    FakeSigner,
    MemoryInventory,
    make_ask,
    make_csr,
    make_policy,
)

_KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
_CSRS = [make_csr(key) for key in _KEYS]
_SIGNER_KEY = ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One caller of a scenario.

    Attributes:
        account: Whom the token names.
        pod: Which pod.
        key: Which key the CSR holds.
        parks: The token must be fetched first.
        bad: What is wrong with the call, if anything.
        pause: Rounds of the loop before it arrives.
        gives_up: Rounds after which the caller leaves; None stays.
        lives_s: Its deadline.
    """

    account: str
    pod: int
    key: int
    parks: bool
    bad: str
    pause: int
    gives_up: int | None
    lives_s: float


_calls = st.builds(
    _Call,
    account=st.sampled_from(["a", "b", "c", "broken"]),
    pod=st.integers(0, 3),
    key=st.integers(0, 3),
    parks=st.booleans(),
    bad=st.sampled_from(["", "", "", "token", "csr", "san"]),
    pause=st.integers(0, 20),
    gives_up=st.none() | st.integers(0, 40),
    lives_s=st.sampled_from([0.0, 5.0]),
)


@dataclass(frozen=True, kw_only=True)
class _Weather:
    """What goes wrong around the calls."""

    store_fails_at: int | None
    bug_at: int | None
    swap_at: int | None
    turn_members: int
    queue_total: int
    slice_s: float


_weathers = st.builds(
    _Weather,
    store_fails_at=st.none() | st.integers(0, 30),
    bug_at=st.none() | st.integers(0, 30),
    swap_at=st.none() | st.integers(0, 30),
    turn_members=st.integers(1, 8),
    queue_total=st.sampled_from([2, 1_000]),
    slice_s=st.sampled_from([0.0, 0.02]),
)


class _Play:
    """Plays a scenario and keeps what every caller saw."""

    def __init__(self, weather: _Weather) -> None:
        self.weather = weather
        self.authenticator = FakeAuthenticator()
        self.signer = FakeSigner(_SIGNER_KEY)
        self.signer.errors["broken"] = MeshsignerError("this order is refused")
        self.inventory = MemoryInventory()
        metrics = Metrics()
        self.recorder = Recorder(self.inventory, metrics)
        self.issuance = Issuance(
            authenticator=self.authenticator,
            signers=[self.signer],
            recorder=self.recorder,
            policy=make_policy,
            metrics=metrics,
            clock=lambda: NOW,
            limits=IssuanceLimits(
                gather=GatherLimits(turn_members=weather.turn_members),
                queue=QueueLimits(total=weather.queue_total, wait_s=60),
                slice_s=weather.slice_s,
            ),
        )

    async def call(self, call: _Call) -> Chain:
        for _ in range(call.pause):
            await asyncio.sleep(0)
        token = f"foo/{call.account}/{call.pod}"
        if call.parks:
            self.authenticator.unknown.add(token)
        csr_pem = _CSRS[call.key]
        if call.bad == "san":
            csr_pem = make_csr(_KEYS[call.key], "spiffe://cluster.local/ns/foo/sa/else")
        deadline_s = asyncio.get_running_loop().time() + call.lives_s
        return await self.issuance.issue(
            make_ask(
                "junk" if call.bad == "token" else token,
                b"junk" if call.bad == "csr" else csr_pem,
                deadline_s=deadline_s,
            )
        )

    async def troubles(self) -> None:
        for step in range(40):
            await asyncio.sleep(0)
            failing = step == self.weather.store_fails_at
            self.inventory.fault = RecordFailed("disk full") if failing else None
            self.signer.bug = ZeroDivisionError() if step == self.weather.bug_at else None
            swap_at = self.weather.swap_at
            swapping = swap_at is not None and swap_at <= step and self.signer.signed
            self.signer.swap = self.signer.signed[0] if swapping else None

    async def run(self, calls: list[_Call]) -> list[Chain | BaseException]:
        await self.recorder.start()
        tasks = [asyncio.create_task(self.call(call)) for call in calls]
        troubles = asyncio.create_task(self.troubles())
        for call, task in zip(calls, tasks, strict=True):
            if call.gives_up is not None:
                asyncio.create_task(_leave(task, call.gives_up))  # noqa: RUF006 - ends by itself
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await troubles
            await self.issuance.drain(1)
            await self.recorder.close()
        return outcomes


async def _leave(task: asyncio.Task[Chain], rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()


def _named(chain: Chain) -> tuple[str, object]:
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.UniformResourceIdentifier)[0], leaf.public_key()


@settings(max_examples=150, deadline=None)
@given(calls=st.lists(_calls, min_size=1, max_size=25), weather=_weathers)
def test_every_call_ends_as_it_must(calls: list[_Call], weather: _Weather) -> None:
    """Each call ends with its own recorded certificate or a documented error, and none hangs."""

    async def play() -> None:
        scene = _Play(weather)
        outcomes = await scene.run(calls)
        rows = {row.serial: row for row in scene.inventory.rows}
        assert len(rows) == len(scene.inventory.rows), "a serial was recorded twice"
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, Chain):
                assert not call.bad
                expected = f"spiffe://cluster.local/ns/foo/sa/{call.account}"
                assert _named(outcome) == (expected, _KEYS[call.key].public_key())
                assert rows[f"{outcome.serial:x}"].certificate_der == outcome.leaf_der
            else:
                assert isinstance(outcome, MeshsignerError | asyncio.CancelledError)
        taken = {f"{o.serial:x}" for o in outcomes if isinstance(o, Chain)}
        known_gone = set(scene.inventory.undelivered) | {
            row.serial for row in rows.values() if not row.delivered
        }
        cancelled = any(call.gives_up is not None or not call.lives_s for call in calls)
        assert rows.keys() - taken <= known_gone or cancelled
        (lane,) = scene.issuance._lanes.local
        assert not lane.orders._in_flight
        assert not len(scene.issuance._lanes)
        assert not len(scene.issuance._outstanding)

    asyncio.run(play())
