"""The outer form of a token: a compact JWS that can be read in one way only.

Decides size, base64url, JSON and headers. What the claims say is decided by
`tokens`, whether the signature holds by `keys` or an API server. Refusals never
quote the token.

Source: RFC 7515 (JWS), RFC 8725 (best practices).
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from meshsigner.authn.members import read_name, read_text
from meshsigner.authn.strict_json import InvalidJson, parse_object
from meshsigner.errors import Unauthenticated

MAX_TOKEN_BYTES = 8_192

ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"},
)  # RFC 7518 3.1 without `none` and HMAC

# `crit` and `b64` change how a token is read, the others bring their own key or
# are of JWE: RFC 7515 4.1, RFC 7797, RFC 8725 3.5 and 3.10.
_REFUSED_HEADERS = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"})

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
# What a segment may end in, by its length modulo 4: the spare bits of the last
# letter are zero, so that two texts never are the same token (RFC 4648 3.5).
_LAST_LETTERS = {2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactJws:
    """A token taken apart, unverified.

    Attributes:
        algorithm: Header `alg`, any text.
        key_id: Header `kid`; good for looking up a key, for nothing else.
        claims: The payload, any object.
        signed: The bytes under the signature.
        signature: The signature, any bytes.
    """

    algorithm: str
    key_id: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def parse_compact(text: str) -> CompactJws:
    """Take a token apart without believing it.

    Args:
        text: Whatever stood behind `Bearer `.

    Raises:
        Unauthenticated: Not three segments of canonical base64url within 8 KiB,
            not JSON objects with distinct members, a header that changes key or
            meaning, or no `alg` or `kid`.
    """
    match = _COMPACT.fullmatch(text.encode("ascii", errors="replace"))
    if match is None or len(text) > MAX_TOKEN_BYTES:
        raise Unauthenticated("not three segments of base64url within 8 KiB")
    claims = _object(match[2], "claims")
    algorithm, key_id = _header(match[1])
    return CompactJws(
        algorithm=algorithm,
        key_id=key_id,
        claims=claims,
        signed=match.string[: match.start(3) - 1],
        signature=_decode(match[3]),
    )


@lru_cache(maxsize=64)
def _header(segment: bytes) -> tuple[str, str]:
    """Read algorithm and key id; all tokens of one key share one header."""
    header = _object(segment, "header")
    if not _REFUSED_HEADERS.isdisjoint(header):
        raise Unauthenticated("a header that changes the key or the meaning of the token")
    return read_text(header, "alg"), read_name(header, "kid")


def _decode(segment: bytes) -> bytes:
    """Read base64url without padding, in its one canonical form (RFC 7515 2)."""
    rest = len(segment) % 4
    if rest and segment[-1] not in _LAST_LETTERS.get(rest, b""):
        raise Unauthenticated("not canonical base64url")
    # more padding than needed is ignored
    return binascii.a2b_base64(segment.translate(_TO_STANDARD) + b"==")


def _object(segment: bytes, name: str) -> dict[str, Any]:
    try:
        return parse_object(_decode(segment))
    except InvalidJson as error:
        raise Unauthenticated(f"the token's {name}: {error}") from None
