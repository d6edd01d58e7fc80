"""The event loop of a server: uvloop, which hears of all that gRPC has ready at once.

gRPC's C core tells a loop of each event by one byte in a socket pair; the loop
reads one byte, and then works off every event that is there. The bytes of those
others wake it again, for nothing, up to three times a call. Here they are read
together with the first. Everything else is uvloop's.

What it looks for belongs to grpcio's inside: a release that works in another
way is served as by uvloop itself.

Source: grpc src/python/grpcio/grpc/_cython/_cygrpc/aio/completion_queue.pyx.pxi;
docs/adr/0017, with the figures.
"""

import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVarTuple

import uvloop

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_COUNT = struct.Struct("i")
_QUEUE = "PollerCompletionQueue"
_Args = TypeVarTuple("_Args")


class EventLoop(uvloop.Loop):
    """Uvloop with one wake-up for all that gRPC has ready."""

    def add_reader(
        self, fd: "FileDescriptorLike", callback: Callable[[*_Args], Any], *args: *_Args
    ) -> None:
        """Watch a file descriptor; gRPC's own is read in one go.

        Args:
            fd: What to watch.
            callback: What to call when it can be read.
            *args: What to call it with.
        """
        handler = getattr(callback, "func", callback)  # grpcio hands over a partial
        if type(getattr(handler, "__self__", None)).__name__ == _QUEUE:
            callback = _reading_ahead(fd if isinstance(fd, int) else fd.fileno(), callback)
        super().add_reader(fd, callback, *args)


def _reading_ahead(fd: int, handle_events: Callable[[*_Args], Any]) -> Callable[[*_Args], None]:
    """Read all bytes but the one that the handler wants, then let it work off the events.

    In this order nothing is lost: a byte is written after its event was queued,
    so that the event of every byte read here is there for the handler.
    """
    answer = bytearray(_COUNT.size)

    def read_and_handle(*args: *_Args) -> None:
        fcntl.ioctl(fd, termios.FIONREAD, answer)
        (ready,) = _COUNT.unpack(answer)
        if ready > 1:
            os.read(fd, ready - 1)
        handle_events(*args)

    return read_and_handle
