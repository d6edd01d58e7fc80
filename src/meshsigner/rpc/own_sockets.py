"""This process's sockets on its port, handled beneath gRPC so that it can end without a loss.

gRPC knows one way to stop: all at once. It cuts handshakes that are under way,
and tells CANCELLED to calls that arrive in that moment, which Istio's clients
do not try again. The kernel can do it step by step: give new connections to
another worker, listen no more, close what is idle. It does so through any
descriptor of a socket; gRPC's own are found in /proc and used through copies.
Where there is no /proc nothing happens, and gRPC's way is all there is.

When to do what is decided in `server`.

Source: Linux net/core/sock_reuseport.c (a group's order: a socket joins at the
end; the last one takes the place of one that leaves), linux/filter.h,
asm-generic/socket.h.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68

# Classic BPF: load a word, A = A % k, jump if A == k, return k.
_LOAD_WORD, _MODULO, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x94, 0x15, 0x06
_RANDOM = 0xFFFF_F000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM: a random number instead of a packet's word


def stop_listening(port: int) -> None:
    """Refuse new connections from now on; handshakes under way go on.

    Connections that wait to be accepted are reset: `steer` first, where there
    is another worker for them.

    Args:
        port: The local port.
    """
    for one in _own_sockets(port):
        if _listens(one):
            _shut(one)


def close_connections(port: int) -> int:
    """Close every connection; the client's next call opens a new one, elsewhere.

    Args:
        port: The local port.

    Returns:
        How many there were.
    """
    return sum(_shut(one) for one in _own_sockets(port) if not _listens(one))


def steer(port: int, members: Sequence[int]) -> None:
    """Let some workers alone have the new connections of the port, until `steer_freely`.

    Holds for all workers on the port. Members that are no more do no harm: the
    kernel then chooses among all.

    Args:
        port: The local port, on which this process listens.
        members: Which, by their order in the kernel's group; at least one.
    """
    program = [(_LOAD_WORD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(members))]
    for number, member in enumerate(members):
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, member)]
    code = b"".join(struct.pack("HBBI", *step) for step in (*program, (_RETURN, 0, 0, members[0])))
    buffer = ctypes.create_string_buffer(code)
    filled = struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))
    for one in _own_sockets(port):
        if _listens(one):
            with suppress(OSError):  # a kernel without it: gRPC's way is all there is
                one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, filled)


def steer_freely(port: int) -> None:
    """Let the kernel spread new connections over all workers again.

    Args:
        port: The local port, on which this process listens.
    """
    for one in _own_sockets(port):
        if _listens(one):
            with suppress(OSError):  # no program was there
                one.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)


def _own_sockets(port: int) -> Iterator[socket.socket]:
    """Yield copies of this process's TCP sockets at a local port, each closed behind itself."""
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        found = _copy(descriptor)
        if found is not None:
            with found:
                if _is_at(found, port):
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


def _is_at(one: socket.socket, port: int) -> bool:
    if one.family not in {socket.AF_INET, socket.AF_INET6} or one.type != socket.SOCK_STREAM:
        return False
    try:
        return bool(one.getsockname()[1] == port)
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
