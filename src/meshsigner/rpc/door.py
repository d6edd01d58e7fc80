"""Lets new connections wait outside while those inside wait too long.

A call that is turned away has cost a TLS handshake and the RPC shell, nearly as
much as a certificate, and comes back four times within 1.5 s on Istio's
schedule: a server that refuses its way through an overload signs next to
nothing. So above a wait, the kernel leaves the SYNs of new connections
unanswered, which costs about a microsecond each; the clients' kernels send them
again after 1, 3 and 7 s. Connections that stand are not concerned.

A filter on the listening sockets does it. It is inherited by connections that
are made meanwhile, and lets all of their packets pass. Where the kernel takes
no filter the door stays open, and the bounds behind it are all there is.

Source: Linux net/core/filter.c (SO_ATTACH_FILTER), net/ipv4/tcp_ipv4.c
tcp_v4_rcv (a filter sees the TCP header); RFC 6298 2 (SYNs again after 1 s);
docs/performance.md, "Overload".
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from meshsigner.observe.logs import get_logger
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event
from meshsigner.rpc.packet_filter import ACCEPT, FLAGS, SYN, SYN_ACK, Program, detach, filtered

_LOOK_S = 0.05
_CALM_S = 5.0  # open for so long: the rush is over

# Drop a packet that asks for a connection, and nothing else.
_NO_SYN = Program(
    (Program.LOAD_BYTE, 0, 0, FLAGS),
    (Program.AND, 0, 0, SYN_ACK),
    (Program.JUMP_IF_EQUAL, 0, 1, SYN),
    (Program.RETURN, 0, 0, 0),
    (Program.RETURN, 0, 0, ACCEPT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """When the door closes.

    Attributes:
        closes_s: At this expected wait of a newcomer, seconds; below the wait at
            which calls are shed, so that few are.
        opens_s: At this it opens again.
        longest_s: No longer closed than this at a stretch, seconds: where it is
            those inside who keep the server busy, newcomers must not starve.
        least_open_s: So long it then stays open, whatever the wait.
    """

    closes_s: float = 0.5
    opens_s: float = 0.25
    longest_s: float = 1.0
    least_open_s: float = 0.2


class Door:
    """The way in for new connections of one process.

    Args:
        listeners: Copies of the process's listening sockets; closed by `aclose`.
        wait_s: Returns how long a newcomer would wait now, seconds.
        metrics: Told how long the door was closed.
        limits: When it closes.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        *,
        wait_s: Callable[[], float],
        metrics: Metrics,
        limits: DoorLimits,
    ) -> None:
        self._listeners = listeners
        self._wait_s = wait_s
        self._metrics = metrics
        self._limits = limits
        self._closed_since_s: float | None = None
        self._rush_since_s: float | None = None
        self._opened_at_s = 0.0
        self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Open for good: what happens to newcomers now is somebody else's matter."""
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching
        self._open(time.perf_counter())
        for one in self._listeners:
            one.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look(time.perf_counter())

    def look(self, now_s: float) -> None:
        """Close or open as the wait is now.

        Args:
            now_s: The time, seconds of `time.perf_counter`.
        """
        wait_s, limits = self._wait_s(), self._limits
        if self._closed_since_s is None:
            if wait_s >= limits.closes_s and now_s - self._opened_at_s >= limits.least_open_s:
                self._close(now_s, wait_s)
            elif self._rush_since_s is not None and now_s - self._opened_at_s > _CALM_S:
                self._tell_calm()
        elif wait_s <= limits.opens_s or now_s - self._closed_since_s >= limits.longest_s:
            self._open(now_s)

    def _close(self, now_s: float, wait_s: float) -> None:
        if not all(filtered(one, _NO_SYN) for one in self._listeners):
            return
        self._closed_since_s = now_s
        if self._rush_since_s is None:
            self._rush_since_s = now_s
            get_logger().warning(Event.DOOR_CLOSED, expected_wait_s=round(wait_s, 3))

    def _open(self, now_s: float) -> None:
        if self._closed_since_s is None:
            return
        for one in self._listeners:
            detach(one)
        self._metrics.door_closed(now_s - self._closed_since_s)
        self._closed_since_s = None
        self._opened_at_s = now_s

    def _tell_calm(self) -> None:
        since = self._rush_since_s or self._opened_at_s
        self._rush_since_s = None
        get_logger().info(Event.DOOR_OPEN, after_s=round(self._opened_at_s - since, 3))
