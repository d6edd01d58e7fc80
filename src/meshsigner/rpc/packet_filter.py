"""Classic BPF on sockets: small programs that the kernel runs for each packet or connection.

Knows how a program is encoded and attached; what it says is its user's matter.

Source: Linux Documentation/networking/filter.rst, linux/filter.h,
asm-generic/socket.h.
"""

import ctypes
import socket
import struct
from typing import ClassVar

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_SO_ATTACH_REUSEPORT_CBPF, _SO_DETACH_REUSEPORT_BPF = 51, 68

ACCEPT = 0xFFFF_FFFF  # that many bytes of a packet are let in
FLAGS = 13  # offset in a TCP header, RFC 9293 3.1
SYN, SYN_ACK = 0x02, 0x12
RANDOM = 0xFFFF_F000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM: a random number instead of a word

Step = tuple[int, int, int, int]


class Program:
    """Instructions of (code, jump if true, jump if false, constant).

    Args:
        *steps: In order; the last ones return.
    """

    LOAD_BYTE: ClassVar = 0x30
    LOAD_WORD: ClassVar = 0x20
    AND: ClassVar = 0x54
    MODULO: ClassVar = 0x94
    JUMP_IF_EQUAL: ClassVar = 0x15
    RETURN: ClassVar = 0x06

    def __init__(self, *steps: Step) -> None:
        code = b"".join(struct.pack("HBBI", *step) for step in steps)
        self._code = ctypes.create_string_buffer(code)
        self.encoded = struct.pack("HP", len(steps), ctypes.addressof(self._code))


def filtered(one: socket.socket, program: Program) -> bool:
    """Filter the packets of a socket, and of the connections that it takes from now on.

    Returns:
        False where the kernel does not.
    """
    return _set(one, _SO_ATTACH_FILTER, program.encoded)


def detach(one: socket.socket) -> None:
    """Filter no more; nothing where nothing was filtered."""
    _set(one, _SO_DETACH_FILTER, 0)


def steers(one: socket.socket, program: Program) -> bool:
    """Choose with a program which socket of a group on one port gets a connection.

    Returns:
        False where the kernel does not.
    """
    return _set(one, _SO_ATTACH_REUSEPORT_CBPF, program.encoded)


def steer_freely(one: socket.socket) -> None:
    """Leave that choice to the kernel again."""
    _set(one, _SO_DETACH_REUSEPORT_BPF, 0)


def _set(one: socket.socket, option: int, value: bytes | int) -> bool:
    try:
        one.setsockopt(socket.SOL_SOCKET, option, value)
    except OSError:
        return False
    return True
