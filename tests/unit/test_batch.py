"""Gather: when a turn starts, how large it is, and what a bug in it does."""

import asyncio
import os

import pytest

from meshsigner.batch import Gather, GatherLimits
from meshsigner.errors import Overloaded


class _Turns:
    """Notes every turn and every bug."""

    def __init__(self, **limits: int) -> None:
        self.turns: list[list[int]] = []
        self.bugs: list[tuple[list[int], Exception]] = []
        self.bug: Exception | None = None
        self.busy = False
        self.gather = Gather[int](
            self._turn,
            lambda members, bug: self.bugs.append((members, bug)),
            GatherLimits(**limits),
            lambda: self.busy,
        )

    def _turn(self, members: list[int]) -> None:
        if self.bug is not None:
            raise self.bug
        self.turns.append(members)


async def _rounds(count: int = 40) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_arrives_together_is_one_turn() -> None:
    """Members that arrive in the same rounds of the loop share a turn."""
    turns = _Turns()
    for member in range(5):
        turns.gather.add(member, 1)
        await asyncio.sleep(0)
    await _rounds()
    assert turns.turns == [[0, 1, 2, 3, 4]]


async def test_a_lone_member_waits_for_quiet_rounds_only() -> None:
    """One member is taken after the quiet rounds, without any timer."""
    turns = _Turns(quiet_rounds=8)
    turns.gather.add(1, 1)
    await _rounds(7)
    assert turns.turns == []
    await _rounds(4)
    assert turns.turns == [[1]]


async def test_the_core_is_offered_before_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread has ready, when it gets the core, comes into the same turn."""
    turns = _Turns(quiet_rounds=8)
    ready = [2, 3]

    def other_thread() -> None:
        if ready:
            asyncio.get_running_loop().call_soon(turns.gather.add, ready.pop(0), 1)

    monkeypatch.setattr(os, "sched_yield", other_thread)
    turns.gather.add(1, 1)
    await _rounds(11)
    assert turns.turns == []
    await _rounds(20)
    assert turns.turns == [[1, 2, 3]]


async def test_a_full_turn_does_not_wait_and_leaves_the_rest_for_the_next() -> None:
    """No more members than a turn may have are taken; the others follow."""
    turns = _Turns(turn_members=3, quiet_rounds=1_000)
    for member in range(7):
        turns.gather.add(member, 1)
    await _rounds(10)
    assert turns.turns == [[0, 1, 2], [3, 4, 5]]
    assert len(turns.gather) == 1


async def test_too_many_members_are_refused_at_once() -> None:
    """The bound counts what waits; room comes back with each turn."""
    turns = _Turns(waiting=2)
    turns.gather.add(1, 1)
    turns.gather.add(2, 1)
    with pytest.raises(Overloaded, match="gather"):
        turns.gather.add(3, 1)
    await _rounds()
    turns.gather.add(3, 1)
    await _rounds()
    assert turns.turns == [[1, 2], [3]]


async def test_too_many_bytes_are_refused_at_once() -> None:
    """The bound in bytes holds whatever the number of members."""
    turns = _Turns(waiting_bytes=100)
    turns.gather.add(1, 60)
    with pytest.raises(Overloaded, match="gather_bytes"):
        turns.gather.add(2, 41)
    turns.gather.add(3, 40)
    await _rounds()
    turns.gather.add(4, 100)
    await _rounds()
    assert turns.turns == [[1, 3], [4]]


async def test_who_was_admitted_rejoins_beyond_the_bound() -> None:
    """A member that left to wait for something is not refused when it comes back."""
    turns = _Turns(waiting=1)
    turns.gather.add(1, 1)
    turns.gather.rejoin(2, 1)
    await _rounds()
    assert turns.turns == [[1, 2]]


async def test_a_poke_runs_an_empty_turn() -> None:
    """An owner with work left gets a turn without newcomers."""
    turns = _Turns()
    turns.gather.poke()
    turns.gather.poke()
    await _rounds()
    assert turns.turns == [[]]


async def test_a_bug_reaches_its_members_and_spares_the_next_turn() -> None:
    """A turn that raises hands its members to `on_bug`; the next one runs."""
    turns = _Turns()
    turns.bug = RuntimeError("broken")
    turns.gather.add(1, 1)
    await _rounds()
    assert turns.bugs == [([1], turns.bug)]
    turns.bug = None
    turns.gather.add(2, 1)
    await _rounds()
    assert turns.turns == [[2]]


async def test_a_small_turn_is_held_back_while_what_comes_behind_is_busy() -> None:
    """Members that a busy store could not serve yet share one turn once it is free."""
    turns = _Turns(held_members=4)
    turns.busy = True
    turns.gather.add(1, 1)
    await _rounds()
    turns.gather.add(2, 1)
    await _rounds()
    assert turns.turns == []
    turns.busy = False
    turns.gather.release()
    turns.gather.add(3, 1)
    await _rounds()
    assert turns.turns == [[1, 2, 3]]


async def test_enough_members_do_not_wait_for_what_is_busy() -> None:
    """A turn of some size is worth its own cost, whatever comes behind."""
    turns = _Turns(held_members=3)
    turns.busy = True
    turns.gather.add(1, 1)
    await _rounds()
    turns.gather.add(2, 1)
    turns.gather.add(3, 1)
    await _rounds()
    assert turns.turns == [[1, 2, 3]]


async def test_nothing_is_held_back_for_long() -> None:
    """A store that hangs holds a turn for a bounded time only."""
    turns = _Turns()
    turns.busy = True
    turns.gather.add(1, 1)
    async with asyncio.timeout(5):
        while not turns.turns:
            await asyncio.sleep(0.005)
    assert turns.turns == [[1]]
    turns.busy = False
    turns.gather.release()
    turns.gather.add(2, 1)
    await _rounds()
    assert turns.turns == [[1], [2]]
