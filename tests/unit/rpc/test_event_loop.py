"""The event loop of a server reads gRPC's wake-up bytes in one go, and loses none."""

import asyncio
import functools
import socket
from collections.abc import Iterator

import grpc.aio
import pytest

from meshsigner.rpc.event_loop import EventLoop


class PollerCompletionQueue:
    """Called as gRPC's own, it reads one byte a call as gRPC does."""

    def __init__(self, reader: socket.socket) -> None:
        self._reader = reader
        self.calls = 0

    def handle_events(self, *_: object) -> None:
        """Read one byte, as for one event; all events are worked off with it."""
        assert self._reader.recv(1)
        self.calls += 1


class Other(PollerCompletionQueue):
    """Somebody else, whose bytes are its own."""


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    """Return a loop, closed afterwards."""
    loop = EventLoop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the two ends of a socket pair that does not block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)  # noqa: FBT003 - the standard library's own form
    yield ends
    for end in ends:
        end.close()


def rounds(loop: EventLoop, count: int) -> None:
    """Let a loop go round some times."""

    async def wait() -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    loop.run_until_complete(wait())


@pytest.mark.parametrize("sent", [1, 2, 5, 300])
def test_bytes_that_are_there_together_wake_once(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket], sent: int
) -> None:
    """However many events are ready, gRPC's handler is called once for them."""
    reader, writer = pair
    queue = PollerCompletionQueue(reader)
    loop.add_reader(reader, functools.partial(queue.handle_events, loop))
    writer.send(b"1" * sent)
    rounds(loop, 10)
    assert queue.calls == 1


def test_a_byte_that_comes_later_wakes_again(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """No event is left lying because its byte was read with an earlier one."""
    reader, writer = pair
    queue = PollerCompletionQueue(reader)
    loop.add_reader(reader, functools.partial(queue.handle_events, loop))
    for calls in (1, 2, 3):
        writer.send(b"11")
        rounds(loop, 10)
        assert queue.calls == calls


def test_other_readers_are_left_alone(
    loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Whoever is not gRPC's queue gets every byte that was sent to it."""
    reader, writer = pair
    other = Other(reader)
    loop.add_reader(reader, other.handle_events)
    writer.send(b"1" * 5)
    rounds(loop, 20)
    assert other.calls == 5


def test_grpc_still_works_as_the_loop_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grpcio whose inside has changed is noticed here, not by a slower server."""
    watched: list[str] = []
    loop = EventLoop()
    add_reader = EventLoop.add_reader

    def note(self: EventLoop, fd: int, callback: functools.partial[object]) -> None:
        watched.append(type(callback.func.__self__).__name__)  # type: ignore[attr-defined]
        add_reader(self, fd, callback)

    monkeypatch.setattr(EventLoop, "add_reader", note)

    async def serve() -> None:
        server = grpc.aio.server()
        server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await server.stop(None)

    loop.run_until_complete(serve())
    loop.close()
    assert "PollerCompletionQueue" in watched
