"""An HTTP/2 client that does what no gRPC client does: stops half-way, resets, pings, floods."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    Event,
    PingAckReceived,
    ResponseReceived,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from meshsigner.rpc.certificate_service import METHOD
from tests.wire.harness import NAME, Wire

E = TypeVar("E", bound=Event)


class RawHttp2:
    """One connection.

    Attributes:
        events: Everything that the server sent.
        closed: True when the server closed the connection.
        h2: The protocol's state.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        config = H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = H2Connection(config=config)
        self.events: list[Event] = []
        self.closed = False
        self._reader = reader
        self._writer = writer
        self._news = asyncio.Condition()

    def flush(self) -> None:
        """Send what the protocol has to say."""
        self._writer.write(self.h2.data_to_send())

    async def run(self) -> None:
        """Read until the server closes."""
        with suppress(ConnectionError, ProtocolError):
            while data := await self._reader.read(65_536):
                await self._take(self.h2.receive_data(data))
        self.closed = True
        await self._take([])

    async def _take(self, events: Sequence[Event]) -> None:
        self.flush()
        async with self._news:
            self.events += events
            self._news.notify_all()

    def open(
        self, method: str = METHOD, *, end: bool = False, extra: Sequence[tuple[str, str]] = ()
    ) -> int:
        """Send the headers of a call; returns the stream."""
        stream = self.h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", NAME),
            (":path", method),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *extra,
        ]
        self.h2.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, message: bytes, *, flag: int = 0, end: bool = True) -> None:
        """Send a gRPC message; `flag` 1 claims that it is compressed."""
        data = bytes([flag]) + len(message).to_bytes(4, "big") + message
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def ping(self) -> None:
        """Send a ping."""
        self.h2.ping(b"meshpong")
        self.flush()

    def reset(self, stream: int) -> None:
        """Give a call up."""
        self.h2.reset_stream(stream)
        self.flush()

    def seen(self, kind: type[E]) -> list[E]:
        """Return all events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[Event], number: int = 1, timeout_s: float = 5) -> None:
        """Wait until so many events of a kind came."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(self.seen(kind)) >= number)

    @property
    def told_to_go(self) -> bool:
        """Whether the server closed, or said that it goes away."""
        return self.closed or bool(self.seen(ConnectionTerminated))

    async def wait_closed(self, timeout_s: float = 5) -> None:
        """Wait until the server closes or says that it goes away."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self.told_to_go)

    async def ping_until_closed(self, timeout_s: float = 5) -> None:
        """Ping much too often, until the server has had enough."""
        async with asyncio.timeout(timeout_s):
            while not self.told_to_go:
                self.ping()
                await asyncio.sleep(0.005)

    async def status(self, stream: int, timeout_s: float = 5) -> tuple[int, str]:
        """Wait for a call's end; returns grpc-status and grpc-message."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: self._status(stream) is not None)
        return cast("tuple[int, str]", self._status(stream))

    def _status(self, stream: int) -> tuple[int, str] | None:
        for event in self.events:
            if isinstance(event, TrailersReceived | ResponseReceived) and event.stream_id == stream:
                headers = dict(cast("list[tuple[str, str]]", event.headers))
                if "grpc-status" in headers:
                    return int(headers["grpc-status"]), headers.get("grpc-message", "")
        return None

    def pings_answered(self) -> int:
        """Return how many pings were answered."""
        return len(self.seen(PingAckReceived))


@asynccontextmanager
async def raw_http2(wire: Wire, context: ssl.SSLContext | None = None) -> AsyncIterator[RawHttp2]:
    """Connect, and greet the server."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", wire.port, ssl=context or wire.tls(), server_hostname=NAME
    )
    client = RawHttp2(reader, writer)
    client.h2.initiate_connection()
    client.flush()
    running = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        running.cancel()
        writer.close()
        with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await running
            await writer.wait_closed()
