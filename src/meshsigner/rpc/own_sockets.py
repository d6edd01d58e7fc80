"""This process's sockets on its port, handled beneath gRPC so that it can end without a loss.

gRPC knows one way to stop: all at once. It cuts handshakes that are under way,
and tells CANCELLED to calls that arrive in that moment, which Istio's clients
do not try again. The kernel can do it step by step: give new connections to
another worker, listen no more, close what is idle. It does so through any
descriptor of a socket; gRPC's own are found in /proc and used through copies.
Where there is no /proc nothing happens, and gRPC's way is all there is.

When to do what is decided in `server`.

Source: Linux net/core/sock_reuseport.c (a group's order: a socket joins at the
end; the last one takes the place of one that leaves), `packet_filter`.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from meshsigner.rpc import packet_filter
from meshsigner.rpc.packet_filter import RANDOM, Program

_DESCRIPTORS = Path("/proc/self/fd")


# A local TCP port, or the path of a Unix socket.
Place = int | str


def stop_listening(place: Place) -> None:
    """Refuse new connections from now on; handshakes under way go on.

    Connections that wait to be accepted are reset: `steer` first, where there
    is another worker for them.

    Args:
        place: Where.
    """
    for one in _own_sockets(place):
        if _listens(one):
            _shut(one)


def close_connections(place: Place) -> int:
    """Close every connection; the client's next call opens a new one, elsewhere.

    Args:
        place: Where.

    Returns:
        How many there were.
    """
    return sum(_shut(one) for one in _own_sockets(place) if not _listens(one))


def steer(port: int, members: Sequence[int]) -> None:
    """Let some workers alone have the new connections of the port, until `steer_freely`.

    Holds for all workers on the port. Members that are no more do no harm: the
    kernel then chooses among all.

    Args:
        port: The local port, on which this process listens.
        members: Which, by their order in the kernel's group; at least one.
    """
    steps = [(Program.LOAD_WORD, 0, 0, RANDOM), (Program.MODULO, 0, 0, len(members))]
    for number, member in enumerate(members):
        steps += [(Program.JUMP_IF_EQUAL, 0, 1, number), (Program.RETURN, 0, 0, member)]
    program = Program(*steps, (Program.RETURN, 0, 0, members[0]))
    for one in _own_sockets(port):
        if _listens(one):
            packet_filter.steers(one, program)  # else gRPC's way is all there is


def steer_freely(port: int) -> None:
    """Let the kernel spread new connections over all workers again.

    Args:
        port: The local port, on which this process listens.
    """
    for one in _own_sockets(port):
        if _listens(one):
            packet_filter.steer_freely(one)


def listeners(port: int) -> Sequence[socket.socket]:
    """Return copies of the sockets on which this process listens; the caller closes them.

    `socket.dup` is no way to have them: it makes the copy block, and with it gRPC's own, for
    that is a property of both; then gRPC's thread would be stuck in accept.

    Args:
        port: The local port.
    """
    found = [os.dup(one.fileno()) for one in _own_sockets(port) if _listens(one)]
    return [socket.socket(fileno=descriptor) for descriptor in found]


def _own_sockets(place: Place) -> Iterator[socket.socket]:
    """Yield copies of this process's stream sockets at a place, each closed behind itself."""
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        found = _copy(descriptor)
        if found is not None:
            with found:
                if _is_at(found, place):
                    yield found


def _copy(descriptor: Path) -> socket.socket | None:
    """Return a copy of a socket, None when the descriptor is of something else."""
    try:
        if not str(descriptor.readlink()).startswith("socket:"):
            return None
        copied = os.dup(int(descriptor.name))
    except OSError:  # closed meanwhile
        return None
    try:
        return socket.socket(fileno=copied)
    except OSError:  # closed, and its number taken by something else
        os.close(copied)
        return None


def _is_at(one: socket.socket, place: Place) -> bool:
    families = {socket.AF_UNIX} if isinstance(place, str) else {socket.AF_INET, socket.AF_INET6}
    if one.family not in families or one.type != socket.SOCK_STREAM:
        return False
    try:
        name = one.getsockname()
        return bool(name == place if isinstance(place, str) else name[1] == place)
    except OSError:
        return False


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _shut(one: socket.socket) -> bool:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side was quicker
        return False
    return True
