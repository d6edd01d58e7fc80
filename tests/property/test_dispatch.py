"""Whatever a remote backend and its callers do, nobody hangs, nothing is mixed up or unrecorded."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsigner.errors import BackendRefused, BackendUnavailable, MeshsignerError, Overloaded
from meshsigner.model import BackendLimits, Capabilities, Chain, Errand
from tests.fakes.pipeline import make_csr
from tests.fakes.remote_ca import Answers, FakeRemote
from tests.fakes.signing_world import SigningWorld, names_of

_KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
_CSRS = [make_csr(key) for key in _KEYS]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One caller: whom it names, when it comes, when it leaves."""

    account: str
    pod: int
    key: int
    pause: int
    gives_up: int | None
    lives_s: float


@dataclass(frozen=True, kw_only=True)
class _Weather:
    """What goes wrong at the backend, call by call."""

    faults: tuple[str, ...]
    lost: int
    swaps: bool
    bug_at: int | None
    batch: int
    in_flight: int
    idempotent: bool
    finds: bool
    intents: bool
    substitute: bool


_calls = st.builds(
    _Call,
    account=st.sampled_from(["a", "b", "c"]),
    pod=st.integers(0, 2),
    key=st.integers(0, 2),
    pause=st.integers(0, 20),
    gives_up=st.none() | st.integers(0, 40),
    lives_s=st.sampled_from([0.0, 0.3]),
)
_weathers = st.builds(
    _Weather,
    faults=st.lists(st.sampled_from(["away", "throttle", "refused"]), max_size=4).map(tuple),
    lost=st.integers(0, 2),
    swaps=st.booleans(),
    bug_at=st.none() | st.integers(0, 5),
    batch=st.sampled_from([1, 3, 100]),
    in_flight=st.integers(1, 4),
    idempotent=st.booleans(),
    finds=st.booleans(),
    intents=st.booleans(),
    substitute=st.booleans(),
)
_FAULTS: dict[str, type[MeshsignerError]] = {
    "away": BackendUnavailable,
    "throttle": Overloaded,
    "refused": BackendRefused,
}


def _remote(weather: _Weather) -> FakeRemote:
    capabilities = Capabilities(
        builds_x509=True,
        idempotent=weather.idempotent,
        finds=weather.finds,
        intents=weather.intents,
    )
    limits = BackendLimits(batch=weather.batch, in_flight=weather.in_flight, call_s=0.15)
    remote = FakeRemote("remote", limits=limits, capabilities=capabilities)
    remote.faults = [_FAULTS[fault]("as told") for fault in weather.faults]
    remote.lost = weather.lost

    def misbehave(chains: list[Chain], _: Sequence[Errand]) -> Answers:
        if len(remote.calls) == weather.bug_at:
            raise ZeroDivisionError
        return [*chains[1:], chains[0]] if weather.swaps else chains

    remote.adversary = misbehave
    return remote


async def _call(world: SigningWorld, call: _Call) -> Chain:
    for _ in range(call.pause):
        await asyncio.sleep(0)
    token = f"foo/{call.account}/{call.pod}"
    return await world.issue(token, _CSRS[call.key], lives_s=call.lives_s)


async def _leave(task: asyncio.Task[Chain], rounds: int) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()


async def _play(world: SigningWorld, calls: list[_Call]) -> list[Chain | BaseException]:
    await world.recorder.start()
    tasks = [asyncio.create_task(_call(world, call)) for call in calls]
    for call, task in zip(calls, tasks, strict=True):
        if call.gives_up is not None:
            asyncio.create_task(_leave(task, call.gives_up))  # noqa: RUF006 - ends by itself
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await world.issuance.drain(1)
        await world.recorder.close()
    return outcomes


@settings(max_examples=40, deadline=None)
@given(calls=st.lists(_calls, min_size=1, max_size=20), weather=_weathers)
def test_every_call_of_a_remote_backend_ends_as_it_must(
    calls: list[_Call], weather: _Weather
) -> None:
    """Each call ends with its own recorded certificate or a documented error, and none hangs."""

    async def play() -> None:
        remote = _remote(weather)
        backends = [remote, FakeRemote("substitute")] if weather.substitute else [remote]
        world = SigningWorld(*backends)
        outcomes = await _play(world, calls)
        rows = {row.serial: row for row in world.inventory.rows}
        assert len(rows) == len(world.inventory.rows), "a serial was recorded twice"
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, Chain):
                uri = f"spiffe://cluster.local/ns/foo/sa/{call.account}"
                assert names_of(outcome) == (uri, _KEYS[call.key].public_key())
                assert rows[f"{outcome.serial:x}"].certificate_der == outcome.leaf_der
            else:
                assert isinstance(outcome, MeshsignerError | asyncio.CancelledError)
        assert not len(world.issuance._lanes)
        assert not len(world.issuance._outstanding)
        assert all(not lane.orders._in_flight for lane in world.issuance._lanes._all)
        if weather.intents:
            _check_quota(remote, world)

    asyncio.run(play())


def _check_quota(remote: FakeRemote, world: SigningWorld) -> None:
    """What was issued and has no row is known to the store as open, or was wrong and told so."""
    recorded = {row.certificate_der for row in world.inventory.rows}
    lost = {token for token, chain in remote.issued.items() if chain.leaf_der not in recorded}
    wrong = world.sample("meshsigner_wrong_certificates_total", backend="remote")
    assert len(lost - set(world.inventory.intents)) <= wrong
