"""The calls in flight: how many there may be, and how long one may last.

Bounds calls for the process and for each connection, before a byte of the
message is read, so that a stranger who never sends one holds nothing for long.
`max_concurrent_streams` bounds a connection too, but not a client that resets
its streams at once: their handlers still run (CVE-2023-44487). Deadlines belong
to the pipeline; what is here is the net under it, for statement 17 must hold
whatever hangs.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from meshsigner.errors import DeadlinePassed, MeshsignerError, NotReady, Overloaded
from meshsigner.observe.names import Shed

HANDLING_TIME_S = 10.0  # istio-contract statement 17: clients set no deadline of their own
# The pipeline ends a call at its deadline and says why; only what it missed is cut here.
_SLACK_S = 0.25
_SWEEP_S = 0.25
# A Unix socket is a proxy's: all its connections have one name, and carry many callers.
_PROXYS = "unix:"
ENDING = "the server is ending"


class Context(Protocol):
    """What the edge uses of grpc.aio's servicer context."""

    def peer(self) -> str:
        """Return the client's address."""
        ...

    def time_remaining(self) -> float | None:
        """Return seconds until the client's deadline, None when it has none."""
        ...


class Call:
    """One call in flight.

    Attributes:
        arrived_s: When its headers came, in seconds of `time.perf_counter`: the
            loop's own clock stands still during a turn, and counts milliseconds.
        deadline_s: When nobody waits for it any more, in the event loop's seconds.
        peer: The client's address.
        line: Fields of its log line.
        task: Who handles it.
        cut_by: Why the server itself ended it, None while it did not.
    """

    __slots__ = ("arrived_s", "cut_by", "deadline_s", "line", "peer", "task")

    def __init__(self, *, arrived_s: float, deadline_s: float, peer: str) -> None:
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.peer = peer
        self.line: dict[str, object] = {"peer": peer}
        self.task: asyncio.Task[object] | None = None
        self.cut_by: MeshsignerError | None = None


class CallsInFlight:
    """Admits calls and ends those that overstay.

    Args:
        limit: Calls in flight in this process.
        per_connection: Calls in flight on one connection.
        shed: Told which bound turned a call away.
        handling_time_s: How long a call may last, seconds.
    """

    def __init__(
        self,
        *,
        limit: int,
        per_connection: int,
        shed: Callable[[str], None],
        handling_time_s: float = HANDLING_TIME_S,
    ) -> None:
        self._limit = limit
        self._per_connection = per_connection
        self._shed = shed
        self._handling_time_s = handling_time_s
        self._calls: set[Call] = set()
        self._connections: dict[str, int] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._ending = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many calls are in flight."""
        return len(self._calls)

    def arrived(self, context: Context) -> Call:
        """Note a call's arrival; it is not yet admitted.

        Args:
            context: The call's context.
        """
        now = asyncio.get_running_loop().time()
        remaining = context.time_remaining()
        patience = self._handling_time_s
        if remaining is not None and remaining < patience:
            patience = remaining
        return Call(
            arrived_s=time.perf_counter(),
            deadline_s=now + patience,
            peer=context.peer(),
        )

    def enter(self, call: Call) -> None:
        """Admit a call; `leave` must follow.

        Args:
            call: What arrived.

        Raises:
            NotReady: The server is ending.
            Overloaded: Too many are in flight, in the process or on this connection.
        """
        if self._ending:
            raise NotReady(ENDING)
        if len(self._calls) >= self._limit:
            raise self._refusal(Shed.CALLS_IN_FLIGHT)
        on_connection = self._connections.get(call.peer, 0)
        if on_connection >= self._per_connection and not call.peer.startswith(_PROXYS):
            raise self._refusal(Shed.CALLS_PER_CONNECTION)
        self._connections[call.peer] = on_connection + 1
        self._calls.add(call)
        call.task = asyncio.current_task()
        if self._sweeper is None:
            self._idle.clear()
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _refusal(self, what: Shed) -> Overloaded:
        self._shed(what)
        return Overloaded(what)

    def leave(self, call: Call) -> None:
        """Forget a call that was admitted.

        Args:
            call: What ended; one that was never admitted is ignored.
        """
        if call not in self._calls:
            return
        self._calls.remove(call)
        left = self._connections[call.peer] - 1
        if left:
            self._connections[call.peer] = left
        else:
            del self._connections[call.peer]
        if not self._calls:
            self._idle.set()

    def cut_all(self, why: Callable[[], MeshsignerError]) -> None:
        """End every call in flight with an error.

        Args:
            why: Makes the error that each caller is told.
        """
        for call in self._calls:
            _cut(call, why())

    def refuse_newcomers(self) -> None:
        """Admit no call any more: the server is ending."""
        self._ending = True

    async def drained(self) -> None:
        """Wait until no call is in flight."""
        while self._calls:
            self._idle.clear()
            await self._idle.wait()

    def _sweep(self) -> None:
        self._sweeper = None
        if not self._calls:
            return
        loop = asyncio.get_running_loop()
        overdue_s = loop.time() - _SLACK_S
        for call in self._calls:
            if call.deadline_s < overdue_s:
                _cut(call, DeadlinePassed("cut at the edge: nobody answered in time"))
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep)


def _cut(call: Call, why: MeshsignerError) -> None:
    if call.cut_by is None and call.task is not None:
        call.cut_by = why
        call.task.cancel()
