"""Admission and the end of calls that overstay."""

import asyncio

import pytest

from meshsigner.errors import DeadlinePassed, NotReady, Overloaded
from meshsigner.rpc.calls import Call, CallsInFlight


class _Context:
    """What gRPC knows of a call."""

    def __init__(self, peer: str = "ipv4:10.0.0.7:1", remaining_s: float | None = None) -> None:
        self._peer = peer
        self._remaining_s = remaining_s

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return self._remaining_s


def _calls(shed: list[str], limit: int = 10, per_connection: int = 5) -> CallsInFlight:
    return CallsInFlight(
        limit=limit, per_connection=per_connection, shed=shed.append, handling_time_s=0.2
    )


async def _stay(calls: CallsInFlight, call: Call) -> None:
    calls.enter(call)
    try:
        await asyncio.sleep(60)
    finally:
        calls.leave(call)


async def test_the_process_is_bounded() -> None:
    """The call above the limit is turned away, counted, and leaves no trace."""
    shed: list[str] = []
    calls = _calls(shed, limit=2)
    entered = [calls.arrived(_Context(f"ipv4:10.0.0.{number}:1")) for number in range(3)]
    calls.enter(entered[0])
    calls.enter(entered[1])
    with pytest.raises(Overloaded):
        calls.enter(entered[2])
    calls.leave(entered[2])
    assert (len(calls), shed) == (2, ["calls_in_flight"])
    calls.leave(entered[0])
    calls.enter(entered[2])
    assert len(calls) == 2


async def test_a_connection_is_bounded() -> None:
    """One connection's limit is its own, and forgotten with its last call."""
    shed: list[str] = []
    calls = _calls(shed, per_connection=1)
    first, second, other = (calls.arrived(_Context(peer)) for peer in ("a", "a", "b"))
    calls.enter(first)
    with pytest.raises(Overloaded):
        calls.enter(second)
    calls.enter(other)
    assert shed == ["calls_per_connection"]
    calls.leave(first)
    calls.leave(other)
    assert calls._connections == {}


@pytest.mark.parametrize(("remaining_s", "patience_s"), [(None, 0.2), (60, 0.2), (0.1, 0.1)])
async def test_deadline_is_the_earlier_one(remaining_s: float | None, patience_s: float) -> None:
    """The client's deadline counts when it is earlier than ours."""
    call = _calls([]).arrived(_Context(remaining_s=remaining_s))
    left_s = call.deadline_s - asyncio.get_running_loop().time()
    assert left_s == pytest.approx(patience_s, abs=0.05)


async def test_overstaying_calls_are_cut() -> None:
    """Past its deadline and some slack a call is cancelled and knows why; others stay."""
    calls = _calls([])
    overdue, fresh = calls.arrived(_Context()), calls.arrived(_Context())
    fresh.deadline_s += 60
    tasks = [asyncio.create_task(_stay(calls, call)) for call in (overdue, fresh)]
    await asyncio.wait(tasks, timeout=2, return_when=asyncio.FIRST_COMPLETED)
    assert tasks[0].cancelled()
    assert isinstance(overdue.cut_by, DeadlinePassed)
    assert fresh.cut_by is None
    assert len(calls) == 1
    tasks[1].cancel()


async def test_all_are_cut_at_the_end() -> None:
    """At the end of the grace every call is cancelled with the reason it is told."""
    calls = _calls([])
    staying = [calls.arrived(_Context()) for _ in range(3)]
    tasks = [asyncio.create_task(_stay(calls, call)) for call in staying]
    await asyncio.sleep(0)
    calls.cut_all(lambda: NotReady("ending"))
    await asyncio.wait_for(calls.drained(), 2)
    assert all(isinstance(call.cut_by, NotReady) for call in staying)
    await asyncio.wait(tasks)


async def test_nothing_runs_while_nothing_is_in_flight() -> None:
    """Without calls there is no timer, and the wait for the end is over at once."""
    calls = _calls([])
    await asyncio.wait_for(calls.drained(), 1)
    call = calls.arrived(_Context())
    calls.enter(call)
    calls.leave(call)
    await asyncio.sleep(0.3)
    assert calls._sweeper is None
