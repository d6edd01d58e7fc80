"""Protocol Buffers by hand: so that tests of the wire trust no generated code.

Knows two wire types, varint and length-delimited; the messages of SDS need no
other.

Source: protobuf.dev, Encoding.
"""

from collections.abc import Mapping, Sequence

Value = int | str | bytes
Fields = Mapping[int, Sequence[Value] | Value]
_LENGTH_DELIMITED = 2


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        octet = data[at]
        at += 1
        number |= (octet & 0x7F) << shift
        shift += 7
        if not octet & 0x80:
            return number, at


def encode(fields: Fields) -> bytes:
    """Encode a message; empty texts are left out, as proto3 does.

    Args:
        fields: By number; a list stands for a repeated field, nested messages are bytes.
    """
    encoded = b""
    for number, values in fields.items():
        for value in [values] if isinstance(values, int | str | bytes) else values:
            if isinstance(value, int):
                encoded += _varint(number << 3) + _varint(value)
                continue
            data = value.encode() if isinstance(value, str) else value
            if data:
                encoded += _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data
    return encoded


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """Decode a message, every field by its number."""
    fields: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == _LENGTH_DELIMITED:
            fields.setdefault(tag >> 3, []).append(data[at : at + value])
            at += value
        else:
            assert tag & 7 == 0, f"wire type {tag & 7}"
            fields.setdefault(tag >> 3, []).append(value)
    return fields


def texts(fields: Mapping[int, list[int | bytes]], number: int) -> list[str]:
    """Return a field's values as texts."""
    return [value.decode() for value in fields.get(number, []) if isinstance(value, bytes)]


def text(fields: Mapping[int, list[int | bytes]], number: int) -> str:
    """Return the one value of a field, empty when it is not there."""
    return "".join(texts(fields, number))
