"""The outer form of a token: size, base64url, JSON, headers."""

import pytest

from meshsigner.authn.compact_jws import MAX_TOKEN_BYTES, CompactJws, parse_compact
from meshsigner.errors import Unauthenticated
from tests.fakes.tokens import (
    claims,
    encode,
    encode_json,
    make_token,
    sign_parts,
)

HEADER = {"alg": "RS256", "kid": "k1"}


def refusal(text: str) -> str:
    """Return why a token cannot be taken apart."""
    with pytest.raises(Unauthenticated) as caught:
        parse_compact(text)
    return str(caught.value)


def raw(header: bytes, payload: bytes) -> str:
    """Sign two segments of any bytes."""
    return sign_parts(encode(header), encode(payload))


def test_a_token_is_taken_apart() -> None:
    """Algorithm, key id, claims, the signed bytes and the signature come out."""
    text = make_token()
    signed = text.rpartition(".")[0].encode()
    parsed = parse_compact(text)
    assert parsed == CompactJws(
        algorithm="RS256",
        key_id="k1",
        claims=claims(),
        signed=signed,
        signature=parsed.signature,
    )
    assert len(parsed.signature) == 256


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        ".e30.e30",
        "e30..e30",
        "e30.e30.e30\n",
        " e30.e30.e30",
        "e30=.e30.e30",
        "e3+.e30.e30",
        "e3/.e30.e30",
        "é.e30.e30",
        "\udc80.e30.e30",
    ],
)
def test_only_three_segments_of_base64url_are_a_token(text: str) -> None:
    """Other numbers of segments, padding, the standard alphabet and spaces are refused."""
    assert refusal(text) == "not three segments of base64url within 8 KiB"


def test_a_token_longer_than_8_kib_is_refused() -> None:
    """8 KiB pass as a size, one more byte does not."""
    signed = make_token(x="longer").rpartition(".")[0]
    text = f"{signed}.{'A' * (8192 - len(signed) - 1)}"
    assert len(text) == MAX_TOKEN_BYTES == 8192
    assert parse_compact(text).key_id == "k1"
    assert refusal(text + "A").endswith("within 8 KiB")


@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.parametrize("rest", [2, 3])
def test_base64url_that_is_not_canonical_is_refused(segment: int, rest: int) -> None:
    """Spare bits that are not zero would make two texts one token."""
    parts = [encode_json(HEADER), encode_json(claims()), encode(b"signature")]
    parts[segment] = "A" * (3 + rest) + "B"
    assert refusal(".".join(parts)) == "not canonical base64url"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_canonical_text_is_read(size: int) -> None:
    """Whatever its last bits, a signature comes back as the bytes that were written."""
    signed = make_token().rpartition(".")[0]
    for last in range(256):
        signature = b"\xff" * (size - 1) + bytes([last])
        assert parse_compact(f"{signed}.{encode(signature)}").signature == signature


def test_a_segment_of_an_impossible_length_is_refused() -> None:
    """No bytes have a base64url text of length 1 modulo 4."""
    header, payload, _ = make_token().split(".")
    assert refusal(f"{header}.{payload}.AAAAA") == "not canonical base64url"


@pytest.mark.parametrize(
    ("header", "payload", "cause"),
    [
        (b"[]", b"{}", "the token's header: not a JSON object"),
        (b"{}", b"[]", "the token's claims: not a JSON object"),
        (b"{", b"{}", "the token's header: not JSON with distinct member names"),
        (b'{"alg":"none","alg":"RS256"}', b"{}", "the token's header: not JSON with"),
        (b"{}", b'{"sub":"a","sub":"b"}', "the token's claims: not JSON with"),
        (b"{}", b'{"exp":NaN}', "the token's claims: not JSON with"),
        (b"{}", b"{" * 4000, "the token's claims: not JSON with"),
        (b"{}", b'"eyJhbGciOiJub25lIn0.e30."', "the token's claims: not a JSON object"),
    ],
)
def test_segments_are_one_strict_json_object_each(
    header: bytes, payload: bytes, cause: str
) -> None:
    """Lists, twice-named members, NaN, endless nesting and nested tokens are refused."""
    assert refusal(raw(header, payload)).startswith(cause)


@pytest.mark.parametrize("name", ["crit", "b64", "jwk", "jku", "x5u", "x5c", "enc", "zip"])
@pytest.mark.parametrize("value", [None, "https://attacker.example/keys", ["exp"], {"kty": "RSA"}])
def test_headers_that_bring_a_key_or_another_meaning_are_refused(name: str, value: object) -> None:
    """RFC 8725 3.5 and 3.10: whatever their value, a token with one of them is refused."""
    text = sign_parts(encode_json({**HEADER, name: value}), encode_json(claims()))
    assert refusal(text) == "a header that changes the key or the meaning of the token"


def test_headers_without_meaning_for_us_are_ignored() -> None:
    """RFC 7515 4: `typ`, `cty`, `x5t` and private names change nothing."""
    token = make_token(header={"typ": "JWT", "cty": "x", "x5t": "abc", "own": 1})
    assert parse_compact(token).claims == claims()


@pytest.mark.parametrize("algorithm", [None, 1, "", ["RS256"], True])
def test_the_algorithm_is_a_text(algorithm: object) -> None:
    """A missing `alg` or one of another type is refused."""
    text = sign_parts(encode_json({**HEADER, "alg": algorithm}), encode_json(claims()))
    assert refusal(text) == "alg is missing or not a text"


@pytest.mark.parametrize(
    "kid", [None, 1, True, "", ["k1"], "k" * 254, "k 1", "k\n1", "k\x001", "ké", "\udc80"]
)
def test_a_key_id_is_a_short_visible_text(kid: object) -> None:
    """A missing, long or invisible `kid`, or one of another type, is refused."""
    assert refusal(make_token(kid=kid)).startswith("kid is ")


@pytest.mark.parametrize("kid", ["../../dev/null", "/etc/passwd", "k1'OR'1'='1", "http://x/"])
def test_a_key_id_is_only_a_name(kid: str) -> None:
    """Paths, URLs and queries as `kid` mean nothing: it is looked up as it stands."""
    assert parse_compact(make_token(kid=kid)).key_id == kid
