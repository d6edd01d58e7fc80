"""The driver's HTTP/2 against another implementation of it."""

import asyncio
from collections.abc import Callable
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from benchmarks.load import headers
from benchmarks.load.calls import Answer, Call
from benchmarks.load.client import Connection

CALL = Call(
    token_block=headers.token_block("a.b.c"),
    body=b"\x00\x00\x00\x00\x02hi",
    public_key_der=b"",
    uri_san="",
)
ANSWER_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


class Wire:
    """A transport whose other end is the h2 library, as the server."""

    def __init__(self) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding=False)
        self.peer = h2.connection.H2Connection(config=config)
        self.events: list[h2.events.Event] = []
        self.connection = Connection(headers.shared_headers("localhost:1"))
        self.peer.initiate_connection()
        self.connection.connection_made(cast("asyncio.BaseTransport", self))
        self.deliver()

    def write(self, data: bytes) -> None:
        """Take what the driver writes."""
        self.events += self.peer.receive_data(data)

    def close(self) -> None:
        """Close as a transport does."""
        self.connection.connection_lost(None)

    def abort(self) -> None:
        """Be gone for good."""

    def deliver(self, step: int = 1 << 20) -> None:
        """Hand the peer's bytes to the driver in pieces of at most `step`."""
        data = self.peer.data_to_send()
        for at in range(0, len(data), step):
            self.connection.data_received(data[at : at + step])

    def call(self) -> list[Answer]:
        """Send one call and return the list that its answer will be in."""
        answers: list[Answer] = []
        self.connection.send(CALL, answers.append)
        return answers

    def seen(self, kind: type[h2.events.Event]) -> list[h2.events.Event]:
        """Return the events of one kind at the peer."""
        return [event for event in self.events if isinstance(event, kind)]

    def respond(self, stream: int, trailers: list[tuple[str, str]]) -> None:
        """Answer one stream with a body in two frames, and trailers."""
        self.peer.send_headers(stream, ANSWER_HEADERS)
        self.peer.send_data(stream, b"one")
        self.peer.send_data(stream, b"two")
        self.peer.send_headers(stream, trailers, end_stream=True)


@pytest.fixture
async def wire() -> Wire:
    """Return a connection past its greeting."""
    return Wire()


async def test_call_as_the_peer_reads_it(wire: Wire) -> None:
    """Header blocks of a first and a later call both decode to the same gRPC request."""
    wire.call()
    wire.call()
    requests = cast("list[h2.events.RequestReceived]", wire.seen(h2.events.RequestReceived))
    first, later = (dict(request.headers) for request in requests)
    bodies = cast("list[h2.events.DataReceived]", wire.seen(h2.events.DataReceived))
    assert first == later
    assert first[b":path"] == headers.PATH.encode()
    assert first[b"authorization"] == b"Bearer a.b.c"
    assert [body.data for body in bodies] == [CALL.body, CALL.body]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
async def test_status_is_the_trailers_one(wire: Wire, step: int) -> None:
    """An HTTP 200 counts as what its grpc-status says, however the bytes arrive."""
    answers = wire.call()
    wire.respond(1, [("grpc-status", "8"), ("grpc-message", "too%20many")])
    wire.deliver(step)
    assert [(a.status, a.message, a.body) for a in answers] == [(8, "too many", b"onetwo")]


async def test_refusal_without_a_body(wire: Wire) -> None:
    """A trailers-only answer counts too."""
    answers = wire.call()
    refusal = [*ANSWER_HEADERS, ("grpc-status", "16")]
    wire.peer.send_headers(1, refusal, end_stream=True)
    wire.deliver()
    assert answers[0].status == 16


async def test_answer_without_a_status_is_no_success(wire: Wire) -> None:
    """A stream that ends without grpc-status counts as UNKNOWN."""
    answers = wire.call()
    wire.peer.send_headers(1, ANSWER_HEADERS, end_stream=True)
    wire.deliver()
    assert answers[0].status == headers.UNKNOWN


async def test_refused_stream_is_unavailable(wire: Wire) -> None:
    """A stream that the peer refuses to look at ends as UNAVAILABLE."""
    answers = wire.call()
    wire.peer.reset_stream(1, error_code=7)
    wire.deliver()
    assert answers[0].status == headers.UNAVAILABLE


async def test_calls_wait_for_the_peers_stream_limit(wire: Wire) -> None:
    """No more streams are open than the peer allows; the rest follow as they end."""
    wire.peer.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    wire.deliver()
    wire.call()
    wire.call()
    assert len(wire.seen(h2.events.RequestReceived)) == 1
    wire.respond(1, [("grpc-status", "0")])
    wire.deliver()
    assert len(wire.seen(h2.events.RequestReceived)) == 2


async def test_calls_wait_for_the_peers_window(wire: Wire) -> None:
    """Bodies beyond the connection's window stay behind until it grows."""
    wire.connection._send_window = len(CALL.body)
    wire.call()
    wire.call()
    assert len(wire.seen(h2.events.RequestReceived)) == 1
    wire.peer.increment_flow_control_window(1000)
    wire.deliver()
    assert len(wire.seen(h2.events.RequestReceived)) == 2


async def _lose(wire: Wire) -> None:
    wire.close()


async def _go_away(wire: Wire) -> None:
    wire.peer.close_connection(last_stream_id=0)
    wire.deliver()


@pytest.mark.parametrize("end", [_lose, _go_away])
async def test_no_call_is_left_behind(wire: Wire, end: Callable[[Wire], object]) -> None:
    """Open calls and later ones end as UNAVAILABLE when the connection goes."""
    before = wire.call()
    await cast("asyncio.Future[None]", end(wire))
    after = wire.call()
    await asyncio.sleep(0)
    assert [answer.status for answer in before + after] == [headers.UNAVAILABLE] * 2
