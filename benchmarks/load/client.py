"""One HTTP/2 connection to a certificate server: calls in, answers out, by callbacks.

Talks TLS through the event loop. It decides nothing about when to call (driver.py)
or what the answers are worth (audit.py). All frames that one piece of received data
gives rise to leave in one write, as with the HTTP/2 stacks of Istio's clients.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from benchmarks.load import frames, headers
from benchmarks.load.calls import Answer, Call, OnAnswer

WINDOW_BYTES: Final = 1 << 20
"""Receive window for streams and connection: what istio-agent announces."""

_ALL_STREAMS: Final = 1 << 31
_OWN_SETTINGS: Final = frames.encode_settings(
    {
        frames.SETTINGS_HEADER_TABLE_SIZE: 0,  # see headers.decode_head
        frames.SETTINGS_ENABLE_PUSH: 0,
        frames.SETTINGS_INITIAL_WINDOW_SIZE: WINDOW_BYTES,
    }
)


@dataclass(slots=True)
class _Stream:
    """A call under way."""

    on_answer: OnAnswer
    status: int | None = None
    message: str = ""
    parts: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the server under test is, and how to know it.

    Args:
        host: Loopback address.
        port: TCP port.
        name: Host name that its certificate must carry; also the `:authority`.
        roots: PEM file with the trust anchors of its certificate.
        cluster_id: The `clusterid` that its callers send.
    """

    host: str
    port: int
    name: str
    roots: Path
    cluster_id: str = "Kubernetes"

    def tls_context(self) -> ssl.SSLContext:
        """Return client settings that accept this server and nobody else."""
        context = ssl.create_default_context(cafile=self.roots)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        return context


class Connection(asyncio.Protocol):
    """A connection that carries many calls at once.

    Args:
        shared: Header blocks for the server's authority.
    """

    def __init__(self, shared: headers.SharedHeaders) -> None:
        self._shared = shared
        self._reader = frames.FrameReader()
        self._streams: dict[int, _Stream] = {}
        self._waiting: deque[tuple[Call, OnAnswer]] = deque()
        self._out: list[bytes] = []
        self._next_stream = 1
        self._send_window = frames.DEFAULT_WINDOW_BYTES
        self._max_streams = _ALL_STREAMS
        self._consumed = 0
        self._block = b""
        self._block_ends_stream = False
        self._now_ns = 0
        self._receiving = False
        self._lost = ""
        self._transport: asyncio.Transport | None = None
        self._greeted = asyncio.Event()
        self._handlers: dict[int, Callable[[frames.Frame], None]] = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_headers,
            frames.CONTINUATION: self._on_continuation,
            frames.RST_STREAM: self._on_reset,
            frames.SETTINGS: self._on_settings,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
        }

    @property
    def lost(self) -> bool:
        """Whether it carries no more calls."""
        return bool(self._lost)

    async def greeted(self) -> None:
        """Wait for the peer's settings.

        Raises:
            ConnectionError: The peer hung up instead.
        """
        await self._greeted.wait()
        if self._lost:
            raise ConnectionError(self._lost)

    def send(self, call: Call, on_answer: OnAnswer) -> None:
        """Send a call as soon as the peer's limits let it; answer exactly once."""
        self._waiting.append((call, on_answer))
        if self._lost:
            asyncio.get_running_loop().call_soon(self._fail_all)
        else:
            self._pump()

    def close(self) -> None:
        """Close the connection; calls that are still open are answered as lost.

        As Go's TLS does it: say so, and close the socket without waiting for the peer to
        say so too. gRPC's servers never do, and would keep the connection for 30 s.
        """
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_soon(self._transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the peer (RFC 9113 3.4)."""
        self._transport = cast("asyncio.Transport", transport)
        grow = frames.encode_window_update(0, WINDOW_BYTES - frames.DEFAULT_WINDOW_BYTES)
        self._out += [frames.PREFACE, _OWN_SETTINGS, grow]
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Answer every open call: the connection is gone."""
        self._lost = f"connection lost: {exc}" if exc else "connection closed"
        self._greeted.set()
        self._fail_all()

    def data_received(self, data: bytes) -> None:
        """Take all frames in, then write what they gave rise to."""
        self._now_ns = time.perf_counter_ns()
        self._receiving = True
        for frame in self._reader.feed(data):
            handler = self._handlers.get(frame.kind)
            if handler is not None:
                handler(frame)
        self._receiving = False
        self._pump()

    def _pump(self) -> None:
        if self._receiving:
            return
        while self._waiting and len(self._streams) < self._max_streams:
            if len(self._waiting[0][0].body) > self._send_window:
                break
            self._open(*self._waiting.popleft())
        self._flush()

    def _open(self, call: Call, on_answer: OnAnswer) -> None:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        shared = self._shared.first if stream == 1 else self._shared.later
        block = shared + call.token_block
        self._streams[stream] = _Stream(on_answer)
        self._send_window -= len(call.body)
        self._out.append(frames.encode(frames.HEADERS, frames.END_HEADERS, stream, block))
        self._out.append(frames.encode(frames.DATA, frames.END_STREAM, stream, call.body))

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _on_data(self, frame: frames.Frame) -> None:
        self._consumed += len(frame.payload)
        if self._consumed >= WINDOW_BYTES // 2:
            self._out.append(frames.encode_window_update(0, self._consumed))
            self._consumed = 0
        stream = self._streams.get(frame.stream)
        if stream is not None:
            stream.parts.append(frames.content(frame))
            if frame.flags & frames.END_STREAM:
                self._finish(frame.stream)

    def _on_headers(self, frame: frames.Frame) -> None:
        self._block = frames.content(frame)
        self._block_ends_stream = bool(frame.flags & frames.END_STREAM)
        if frame.flags & frames.END_HEADERS:
            self._take_block(frame.stream)

    def _on_continuation(self, frame: frames.Frame) -> None:
        self._block += frame.payload
        if frame.flags & frames.END_HEADERS:
            self._take_block(frame.stream)

    def _take_block(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        head = headers.decode_head(self._block)
        if head.grpc_status is not None:
            stream.status, stream.message = head.grpc_status, head.message
        if self._block_ends_stream:
            self._finish(number)

    def _on_reset(self, frame: frames.Frame) -> None:
        code = frames.decode_word(frame.payload)
        if frame.stream in self._streams:
            self._finish(frame.stream, headers.status_of_reset(code), f"reset with code {code}")

    def _on_settings(self, frame: frames.Frame) -> None:
        if frame.flags & frames.ACK:
            return
        settings = frames.decode_settings(frame.payload)
        self._max_streams = settings.get(frames.SETTINGS_MAX_CONCURRENT_STREAMS, self._max_streams)
        self._out.append(frames.encode(frames.SETTINGS, frames.ACK, 0))
        self._greeted.set()

    def _on_ping(self, frame: frames.Frame) -> None:
        if not frame.flags & frames.ACK:
            self._out.append(frames.encode(frames.PING, frames.ACK, 0, frame.payload))

    def _on_goaway(self, frame: frames.Frame) -> None:
        """Give up what the peer will not look at any more (RFC 9113 6.8)."""
        self._lost = "the server is going away"
        last = frames.decode_word(frame.payload)
        for number in [number for number in self._streams if number > last]:
            self._finish(number, headers.UNAVAILABLE, self._lost)
        self._fail_waiting()

    def _on_window_update(self, frame: frames.Frame) -> None:
        if frame.stream == 0:
            self._send_window += frames.decode_word(frame.payload)

    def _fail_all(self) -> None:
        self._now_ns = time.perf_counter_ns()
        for number in list(self._streams):
            self._finish(number, headers.UNAVAILABLE, self._lost)
        self._fail_waiting()

    def _fail_waiting(self) -> None:
        refused, self._waiting = self._waiting, deque()
        answer = Answer(
            status=headers.UNAVAILABLE, message=self._lost, body=b"", at_ns=self._now_ns
        )
        for _, on_answer in refused:
            on_answer(answer)

    def _finish(self, number: int, status: int | None = None, message: str = "") -> None:
        stream = self._streams.pop(number)
        if status is None and stream.status is None:
            status, message = headers.UNKNOWN, "the answer ended without a grpc-status"
        elif status is None:
            status, message = stream.status, stream.message
        body = b"".join(stream.parts)
        stream.on_answer(Answer(status=status or 0, message=message, body=body, at_ns=self._now_ns))


async def dial(server: Server, tls: ssl.SSLContext, *, source: str = "") -> Connection:
    """Return a new connection on which the peer has announced its settings.

    Args:
        server: Whom to dial.
        tls: What `server.tls_context()` returned.
        source: Address to dial from; empty leaves it to the kernel.

    Raises:
        OSError: Nobody listens, or the peer doesn't speak HTTP/2.
        ssl.SSLError: The server is not the one that `server` describes.
    """
    shared = headers.shared_headers(f"{server.name}:{server.port}", server.cluster_id)
    transport, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(shared),
        server.host,
        server.port,
        ssl=tls,
        server_hostname=server.name,
        local_addr=(source, 0) if source else None,
    )
    session = transport.get_extra_info("ssl_object")
    if session is None or session.selected_alpn_protocol() != "h2":
        transport.close()
        raise ConnectionError("the server does not speak HTTP/2 over TLS")
    await connection.greeted()
    return connection
