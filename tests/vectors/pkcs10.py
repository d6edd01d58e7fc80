"""Builds PKCS #10 requests from parts, right ones and wrong ones.

Source: RFC 2986 4 (the request), RFC 2985 5.4.2 (extensionRequest), RFC 5280 4.2
(extensions), RFC 7468 7 (PEM).
"""

import base64
from collections.abc import Sequence

from tests.vectors import der
from tests.vectors.signers import Signer, p256

EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
SUBJECT_ALT_NAME, BASIC_CONSTRAINTS = "2.5.29.17", "2.5.29.19"
KEY_USAGE, EXTENDED_KEY_USAGE = "2.5.29.15", "2.5.29.37"
COMMON_NAME, ORGANIZATION = "2.5.4.3", "2.5.4.10"

IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
EMPTY_SUBJECT = der.seq()


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    """Make one extension."""
    flag = der.boolean(value=True) if critical else b""
    return der.seq(der.oid(dotted), flag, der.octet_string(value))


def uri(text: str | bytes) -> bytes:
    """Make a uniformResourceIdentifier name of any bytes."""
    return der.tlv(0x86, text.encode() if isinstance(text, str) else text)


def dns(text: str) -> bytes:
    """Make a dNSName."""
    return der.tlv(0x82, text.encode())


def san(*names: bytes, critical: bool = True) -> bytes:
    """Make a subjectAltName extension of these names."""
    return extension(SUBJECT_ALT_NAME, der.seq(*names), critical=critical)


def attribute(dotted: str, *values: bytes) -> bytes:
    """Make one attribute."""
    return der.seq(der.oid(dotted), der.set_of(*values))


def asking(*extensions: bytes) -> bytes:
    """Make the attribute that asks for extensions."""
    return attribute(EXTENSION_REQUEST, der.seq(*extensions))


def subject(*pairs: tuple[str, str]) -> bytes:
    """Make a name of (type, value) pairs, one to an RDN."""
    return der.seq(
        *(
            der.set_of(der.seq(der.oid(kind), der.tlv(der.UTF8_STRING, value.encode())))
            for kind, value in pairs
        ),
    )


def info(
    signer: Signer,
    *,
    name: bytes = EMPTY_SUBJECT,
    attributes: Sequence[bytes] = (),
    version: bytes = b"\x02\x01\x00",
) -> bytes:
    """Make CertificationRequestInfo, the part that is signed."""
    return der.seq(version, name, signer.spki, der.tlv(der.CONTEXT, *sorted(attributes)))


def signed(signer: Signer, content: bytes) -> bytes:
    """Sign CertificationRequestInfo, whatever it holds."""
    return der.seq(content, signer.algorithm, der.bit_string(signer.sign(content)))


def request(
    *extensions: bytes,
    signer: Signer | None = None,
    name: bytes = EMPTY_SUBJECT,
) -> bytes:
    """Make a whole well-formed request, DER, by default with the P-256 key."""
    signer = signer or p256()
    return signed(signer, info(signer, name=name, attributes=[asking(*extensions)]))


def own_name() -> bytes:
    """Make the subjectAltName that the caller of the vectors may ask for."""
    return san(uri(IDENTITY))


def usual() -> bytes:
    """Make the request of ztunnel: P-256, no subject, one critical URI name."""
    return request(own_name())


def pem(
    content: bytes,
    *,
    label: str = "CERTIFICATE REQUEST",
    newline: str = "\n",
    width: int = 64,
) -> bytes:
    """Wrap DER as text."""
    text = base64.b64encode(content).decode()
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    return newline.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
