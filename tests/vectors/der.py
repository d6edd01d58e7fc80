"""Just enough DER to write requests that no library would write.

Every function returns bytes and checks nothing: the callers want the wrong
forms too.

Source: ITU-T X.690.
"""

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, PRINTABLE_STRING, BOOLEAN = 0x0C, 0x13, 0x01
SEQUENCE, SET, CONTEXT = 0x30, 0x31, 0xA0


def length(size: int) -> bytes:
    """Encode a length in as few bytes as it needs."""
    if size < 0x80:
        return bytes([size])
    digits = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([0x80 | len(digits)]) + digits


def tlv(tag: int, *parts: bytes) -> bytes:
    """Put a tag and a length before some content."""
    content = b"".join(parts)
    return bytes([tag]) + length(len(content)) + content


def seq(*parts: bytes) -> bytes:
    """Make a SEQUENCE."""
    return tlv(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """Make a SET OF, its elements in DER's order."""
    return tlv(SET, *sorted(parts))


def integer(value: int) -> bytes:
    """Make an INTEGER in two's complement, minimal."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(size, signed=True))


def bit_string(content: bytes) -> bytes:
    """Make a BIT STRING without unused bits."""
    return tlv(BIT_STRING, b"\x00", content)


def octet_string(content: bytes) -> bytes:
    """Make an OCTET STRING."""
    return tlv(OCTET_STRING, content)


def null() -> bytes:
    """Make a NULL."""
    return tlv(NULL)


def boolean(*, value: bool) -> bytes:
    """Make a BOOLEAN."""
    return tlv(BOOLEAN, b"\xff" if value else b"\x00")


def oid(dotted: str) -> bytes:
    """Make an OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return tlv(OID, *(_base_128(arc) for arc in (40 * first + second, *rest)))


def _base_128(arc: int) -> bytes:
    digits = [arc & 0x7F]
    while arc := arc >> 7:
        digits.append(0x80 | (arc & 0x7F))
    return bytes(reversed(digits))
