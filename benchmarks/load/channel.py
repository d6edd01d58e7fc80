"""Connections as gRPC clients have them: dialled when needed, dialled again when lost.

It decides when to dial and from which loopback address; the bytes are client.py's.
"""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Final

from benchmarks.load.arrivals import NS_PER_S
from benchmarks.load.calls import Answer, Call, OnAnswer
from benchmarks.load.client import Connection, Server, dial
from benchmarks.load.headers import UNAVAILABLE
from benchmarks.load.retries import dial_waits

DIAL_TIMEOUT_S: Final = 20.0
"""The least that a gRPC client gives a connection to come up."""

_ADDRESSES: Final = 200


def loopback_sources(number: int) -> Iterator[str]:
    """Return loopback addresses to dial from, in turn, without end.

    A process of its own range: 28,000 ports an address do not hold a herd, nor the
    closed connections of a minute of churn.

    Args:
        number: The process's, from 0.
    """
    network = f"127.{1 + number // 200}.{1 + number % 200}"
    return cycle([f"{network}.{host}" for host in range(1, _ADDRESSES + 1)])


class Dialer:
    """Opens connections to one server, each from another loopback address.

    Args:
        server: The server.
        number: Number of this process, which picks the addresses.
        tls: Other settings of TLS than the server's own.
    """

    def __init__(self, server: Server, number: int, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._tls = tls or server.tls_context()
        loopback = server.host.startswith("127.")
        self._sources = loopback_sources(number) if loopback else cycle([""])

    async def dial(self) -> Connection:
        """Return a new connection.

        Raises:
            OSError: Nobody listens, it took too long, or TLS failed.
        """
        async with asyncio.timeout(DIAL_TIMEOUT_S):
            return await dial(self._server, self._tls, source=next(self._sources))


class Channel:
    """What a gRPC client calls a channel: one connection at a time, none before the first call.

    Args:
        dialer: Opens its connections.
        chance: For the jitter of its back-off.
    """

    def __init__(self, dialer: Dialer, chance: random.Random) -> None:
        self._dialer = dialer
        self._chance = chance
        self._waits = dial_waits(chance)
        self._connection: Connection | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._queued: list[tuple[Call, OnAnswer]] = []
        self._fails_until_ns = 0
        self._why = ""
        self._closed = False

    async def open(self) -> None:
        """Connect now.

        Raises:
            OSError: It did not work.
        """
        self._connection = await self._dialer.dial()

    def send(self, call: Call, on_answer: OnAnswer) -> None:
        """Send a call, over a new connection if there is none; answer exactly once."""
        if self._connection is not None and not self._connection.lost:
            self._connection.send(call, on_answer)
        elif time.perf_counter_ns() < self._fails_until_ns:
            asyncio.get_running_loop().call_soon(on_answer, _unavailable(self._why))
        else:
            self._queued.append((call, on_answer))
            self._connect()

    def close(self) -> None:
        """Hang up; calls under way are answered as lost."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        if self._dialling is None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        try:
            self._connection = await self._dialer.dial()
        except (OSError, ssl.SSLError) as error:
            self._fail(error)
        else:
            self._waits = dial_waits(self._chance)
            self._deliver(self._connection)
        finally:
            self._dialling = None

    def _deliver(self, connection: Connection) -> None:
        queued, self._queued = self._queued, []
        for call, on_answer in queued:
            connection.send(call, on_answer)
        if self._closed:
            connection.close()

    def _fail(self, error: Exception) -> None:
        self._why = describe_dial(error)
        self._fails_until_ns = time.perf_counter_ns() + round(next(self._waits) * NS_PER_S)
        queued, self._queued = self._queued, []
        for _, on_answer in queued:
            on_answer(_unavailable(self._why))


class FreshConnections:
    """A new TLS connection for every call, as every new pod opens one; closed after the answer.

    Args:
        dialer: Opens them.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, call: Call, on_answer: OnAnswer) -> None:
        """Dial and send; a dial that failed is an answer too."""
        task = asyncio.get_running_loop().create_task(self._carry(call, on_answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, call: Call, on_answer: OnAnswer) -> None:
        try:
            connection = await self._dialer.dial()
        except (OSError, ssl.SSLError) as error:
            on_answer(_unavailable(describe_dial(error)))
        else:
            connection.send(call, _then_close(connection, on_answer))


def describe_dial(error: Exception) -> str:
    """Return why a dial failed, without what differs from one to the next."""
    if isinstance(error, ssl.SSLError):
        return f"dial: TLS {error.reason}"
    if isinstance(error, TimeoutError):
        return f"dial: not up within {DIAL_TIMEOUT_S:.0f} s"
    return f"dial: {type(error).__name__}"


def _then_close(connection: Connection, on_answer: OnAnswer) -> Callable[[Answer], None]:
    def answered(answer: Answer) -> None:
        connection.close()
        on_answer(answer)

    return answered


def _unavailable(why: str) -> Answer:
    return Answer(status=UNAVAILABLE, message=why, body=b"", at_ns=time.perf_counter_ns())
