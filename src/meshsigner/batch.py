"""Idle-turn batching: gathers what is there, hands it over as one turn.

Decides when a turn starts and how large it is; what happens in it is its
owner's. A turn starts once several rounds of the event loop in a row have
brought nothing new: a lone request waits for about 0.04 ms, and under load a
turn takes all that the kernel and gRPC have ready. Between those rounds the core
is offered to gRPC's own thread, which may wait for it with more of them. There
is nothing to tune for a rate. While what comes behind a turn is busy anyway (a
commit is under way), a small turn is held back until that is free: its members
lose nothing, and one larger turn costs less than two.

Source: docs/adr/0002 (turns), with the figures.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from meshsigner.errors import Overloaded

Member = TypeVar("Member")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherLimits:
    """Bounds of what waits for a turn.

    Attributes:
        quiet_rounds: Rounds of the event loop without a newcomer that start a
            turn. 4 to 32 are alike, fewer than 3 gather nothing: grpc.aio
            hands over one request a round.
        turn_members: Most members of one turn; about 20 ms of work, then the
            sockets get a look.
        held_members: Fewer than these are held back while what comes behind is busy.
        held_s: But no longer, seconds: a store that hangs must not keep refusals waiting.
        waiting: Most members that wait.
        waiting_bytes: Most bytes that they hold together.
    """

    quiet_rounds: int = 8
    turn_members: int = 100
    held_members: int = 32
    held_s: float = 0.02
    waiting: int = 3_000
    waiting_bytes: int = 32 * 1024 * 1024


class Gather(Generic[Member]):
    """Collects members and starts their turns.

    Args:
        turn: Does the work of one turn; must not await. What it raises is
            handed to `on_bug` with the members that it concerned.
        on_bug: Tells every member of a broken turn that it failed.
        limits: Bounds.
        busy: Says whether what comes behind a turn is busy; `release` must be
            called when it is free again.
    """

    def __init__(
        self,
        turn: Callable[[list[Member]], None],
        on_bug: Callable[[list[Member], Exception], None],
        limits: GatherLimits,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._turn = turn
        self._on_bug = on_bug
        self._limits = limits
        self._busy = busy
        self._held: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[Member, int]] = deque()
        self._waiting_bytes = 0
        self._scheduled = False
        self._arrivals = 0

    def __len__(self) -> int:
        """Count the members that wait."""
        return len(self._waiting)

    def add(self, member: Member, size_bytes: int) -> None:
        """Let a newcomer wait for the next turn.

        Args:
            member: Whoever it is.
            size_bytes: What it holds in memory.

        Raises:
            Overloaded: Too many wait, or too many bytes.
        """
        if len(self._waiting) >= self._limits.waiting:
            raise Overloaded("gather")
        if self._waiting_bytes + size_bytes > self._limits.waiting_bytes:
            raise Overloaded("gather_bytes")
        self.rejoin(member, size_bytes)

    def rejoin(self, member: Member, size_bytes: int) -> None:
        """Let a member wait that was admitted before: bounds don't count again."""
        self._waiting.append((member, size_bytes))
        self._waiting_bytes += size_bytes
        self._arrivals += 1
        if len(self._waiting) >= self._limits.held_members:
            self.release()
        self.poke()

    def poke(self) -> None:
        """Have a turn run even without newcomers: its owner has work left."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._look, 0, self._arrivals)

    def release(self) -> None:
        """Look again: what the turn was held back for is free."""
        if self._held is not None:
            self._held.cancel()
            self._held = None
            asyncio.get_running_loop().call_soon(self._look, 0, self._arrivals)

    def _look(self, quiet: int, arrivals_seen: int) -> None:
        """Count quiet rounds; start the turn after enough of them, or hold it back."""
        loop = asyncio.get_running_loop()
        quiet = quiet + 1 if self._arrivals == arrivals_seen else 0
        if quiet == self._limits.quiet_rounds // 2:
            os.sched_yield()
        full = len(self._waiting) >= self._limits.turn_members
        if quiet < self._limits.quiet_rounds and not full:
            loop.call_soon(self._look, quiet, self._arrivals)
        elif len(self._waiting) < self._limits.held_members and self._busy():
            self._held = loop.call_later(self._limits.held_s, self._run)
        else:
            self._run()

    def _run(self) -> None:
        self._held = None
        self._scheduled = False
        self._start()
        if self._waiting:
            self.poke()

    def _start(self) -> None:
        taken = [
            self._waiting.popleft()
            for _ in range(min(len(self._waiting), self._limits.turn_members))
        ]
        self._waiting_bytes -= sum(size for _, size in taken)
        members = [member for member, _ in taken]
        try:
            self._turn(members)
        except Exception as bug:  # noqa: BLE001 - the supervisor of turns: a bug must
            # reach every member, and leave the next turn as able to run as this one was.
            self._on_bug(members, bug)
