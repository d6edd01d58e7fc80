"""HTTP/2 frames, as far as a gRPC client needs them (RFC 9113).

Pure: bytes in, frames out, and back. What the frames mean is the connection's
business (client.py). Written by hand, because a general HTTP/2 library costs the
driver as much CPU per call as the server under test spends on it.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

SETTINGS_HEADER_TABLE_SIZE: Final = 0x1
SETTINGS_ENABLE_PUSH: Final = 0x2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 0x3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 0x4

DEFAULT_WINDOW_BYTES: Final = 65_535
MAX_FRAME_BYTES: Final = 16_384
"""The limit a peer sets unless it announces more; the driver stays below it."""

_HEAD: Final = struct.Struct(">IBI")
_SETTING: Final = struct.Struct(">HI")
_WORD: Final = struct.Struct(">I")
_HEAD_BYTES: Final = 9
_STREAM_MASK: Final = 0x7FFF_FFFF


class Frame(NamedTuple):
    """One frame as it came.

    Args:
        kind: The type octet.
        flags: The flags octet.
        stream: The stream's number, 0 for the connection itself.
        payload: What follows the nine octets of the head.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes


def encode(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame's bytes.

    Raises:
        ValueError: The payload is longer than any peer must accept.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"{len(payload)} bytes do not fit into one frame")
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def encode_settings(settings: dict[int, int]) -> bytes:
    """Return a SETTINGS frame that announces the given values."""
    pairs = b"".join(_SETTING.pack(*pair) for pair in settings.items())
    return encode(SETTINGS, 0, 0, pairs)


def decode_settings(payload: bytes) -> dict[int, int]:
    """Return what a SETTINGS frame's payload announces."""
    return dict(_SETTING.iter_unpack(payload))


def encode_window_update(stream: int, step_bytes: int) -> bytes:
    """Return a frame that lets the peer send `step_bytes` more."""
    return encode(WINDOW_UPDATE, 0, stream, _WORD.pack(step_bytes))


def decode_word(payload: bytes) -> int:
    """Return the first 31-bit number of a WINDOW_UPDATE, RST_STREAM or GOAWAY payload."""
    word: int = _WORD.unpack_from(payload)[0]
    return word & _STREAM_MASK


def content(frame: Frame) -> bytes:
    """Return a DATA or HEADERS payload without padding and priority fields."""
    payload = frame.payload
    if frame.flags & PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    if frame.kind == HEADERS and frame.flags & PRIORITY:
        payload = payload[5:]
    return payload


class FrameReader:
    """Cuts a byte stream into frames; keeps the unfinished rest."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield every frame that is complete with `data` appended to what was there."""
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        while end - at >= _HEAD_BYTES:
            word, flags, stream = _HEAD.unpack_from(buffer, at)
            after = at + _HEAD_BYTES + (word >> 8)
            if after > end:
                break
            yield Frame(word & 0xFF, flags, stream & _STREAM_MASK, buffer[at + _HEAD_BYTES : after])
            at = after
        self._rest = buffer[at:]
