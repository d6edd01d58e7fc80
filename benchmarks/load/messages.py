"""Istio's two messages, encoded and decoded by hand, with gRPC's five-byte frame.

Pure. By hand, because the driver knows the wire and no server's generated code.

Source:
    istio/api security/v1alpha1/ca.proto; gRPC over HTTP/2, "Length-Prefixed-Message".
"""

from collections.abc import Iterator
from typing import Final

_FRAME_BYTES: Final = 5
_CSR: Final = 1 << 3 | 2
_VALIDITY: Final = 3 << 3 | 0
_METADATA: Final = 4 << 3 | 2
_CERT_CHAIN: Final = 1 << 3 | 2


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _varint(len(content)) + content


def _struct_entry(key: str, value: str) -> bytes:
    """Return one entry of a google.protobuf.Struct whose value is a string."""
    text = _field(3 << 3 | 2, value.encode())
    return _field(1 << 3 | 2, _field(1 << 3 | 2, key.encode()) + _field(2 << 3 | 2, text))


def encode_request(csr_pem: bytes, validity_s: int, metadata: dict[str, str]) -> bytes:
    """Return a framed IstioCertificateRequest.

    Args:
        csr_pem: The PKCS #10 request.
        validity_s: Asked lifetime in seconds, not negative.
        metadata: String values; istio-agent always sends `CertSigner`, if only empty.
    """
    entries = b"".join(_struct_entry(*item) for item in metadata.items())
    message = _field(_CSR, csr_pem) + bytes([_VALIDITY]) + _varint(validity_s)
    message += _field(_METADATA, entries)
    return b"\x00" + len(message).to_bytes(4, "big") + message


def decode_chain(body: bytes) -> list[str]:
    """Return the `cert_chain` of a framed IstioCertificateResponse, leaf first.

    Raises:
        ValueError: The bytes are not exactly one uncompressed message of that type.
    """
    if len(body) < _FRAME_BYTES or body[0] != 0:
        raise ValueError("not an uncompressed gRPC message")
    if int.from_bytes(body[1:_FRAME_BYTES], "big") != len(body) - _FRAME_BYTES:
        raise ValueError("the gRPC frame's length does not match")
    return [text.decode() for text in _chain_elements(body)]


def _chain_elements(body: bytes) -> Iterator[bytes]:
    at = _FRAME_BYTES
    while at < len(body):
        if body[at] != _CERT_CHAIN:
            raise ValueError(f"unknown field tag {body[at]}")
        length, at = _read_varint(body, at + 1)
        if at + length > len(body):
            raise ValueError("a field is longer than its message")
        yield body[at : at + length]
        at += length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(data) and shift < 35:
        octet = data[at]
        at += 1
        value |= (octet & 0x7F) << shift
        if octet <= 0x7F:
            return value, at
        shift += 7
    raise ValueError("a length is cut off")
