"""What a JWK set may hold, and that no key belongs to two clusters."""

import json

import pytest

from meshsigner.authn.key_sets import (
    MAX_KEY_SET_BYTES,
    MAX_KEYS,
    InvalidKeySet,
    KeyOwners,
    parse_key_set,
)
from tests.fakes.tokens import ec_key, jwk, jwks, rsa_key


def test_keys_are_found_by_their_id() -> None:
    """A set of several kinds of keys gives each under its id."""
    keys = parse_key_set(jwks(jwk(rsa_key(), "a"), jwk(ec_key(), "b")))
    assert sorted(keys.keys) == ["a", "b"]
    assert "ES256" in keys.keys["b"].verifiers
    assert keys.ignored == ()
    assert len(keys.thumbprints()) == 2


def test_what_cannot_verify_is_left_out_and_named() -> None:
    """RFC 7517 5: foreign entries do not spoil a set, but nobody overlooks them."""
    keys = parse_key_set(
        jwks(
            jwk(rsa_key(), "good"),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            jwk(rsa_key("two"), "leaked", d="AQAB"),
            jwk(ec_key(), "enc", use="enc"),
            {"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "new\n"},
            {"kty": "RSA"},
        ),
    )
    assert list(keys.keys) == ["good"]
    assert keys.ignored == (
        "key 'shared': holds private or symmetric key material",
        "key 'leaked': holds private or symmetric key material",
        "key 'enc': use is not sig",
        "key 'new\\n': kty is neither RSA nor EC",
        "key without id: no key id",
    )


def test_bounds_are_kept_to_the_letter() -> None:
    """256 KiB and 100 entries are taken, what is larger is not; long ids are cut."""
    data = jwks(jwk(rsa_key(), "a"), *[{}] * 99)
    assert len(parse_key_set(data).ignored) == 99
    padded = data + b" " * (262_144 - len(data))
    assert list(parse_key_set(padded).keys) == ["a"]
    with pytest.raises(InvalidKeySet, match="longer than 256 KiB"):
        parse_key_set(padded + b" ")
    cut = parse_key_set(jwks(jwk(rsa_key(), "a"), {"kid": "k" * 1000})).ignored[0]
    assert cut == f"key '{'k' * 79}: kty is neither RSA nor EC"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "not JSON with distinct member names"),
        (b"<html>", "not JSON with distinct member names"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list `keys` of objects"),
        (b'{"keys": {}}', "no list `keys` of objects"),
        (b'{"keys": [1]}', "no list `keys` of objects"),
        (b'{"keys": [], "keys": []}', "not JSON with distinct member names"),
        (b'{"keys": []}', "no usable key"),
        (jwks({"kty": "oct", "k": "AA", "kid": "x"}), "no usable key; key 'x': holds private or"),
        (jwks(*[{}] * (MAX_KEYS + 1)), "more than 100 keys"),
        (b" " * (MAX_KEY_SET_BYTES + 1), "longer than 256 KiB"),
    ],
)
def test_a_set_that_gives_no_key_is_refused(data: bytes, cause: str) -> None:
    """Other documents, oversize ones and sets without a usable key are refused as a whole."""
    with pytest.raises(InvalidKeySet) as caught:
        parse_key_set(data)
    assert str(caught.value).startswith(cause)


def test_a_key_id_that_is_there_twice_refuses_the_set() -> None:
    """Which of the two an id means would depend on the order, even where one is unusable."""
    for second in [jwk(rsa_key("two"), "a"), {"kty": "oct", "k": "AA", "kid": "a"}]:
        with pytest.raises(InvalidKeySet, match="more than once: key 'a'"):
            parse_key_set(jwks(jwk(rsa_key(), "a"), second))


def test_two_sets_are_the_same_by_what_they_say() -> None:
    """Order and spelling make no difference; keys, their ids and algorithms do."""
    one = parse_key_set(jwks(jwk(rsa_key(), "a"), jwk(ec_key(), "b")))
    same = parse_key_set(json.dumps({"keys": [jwk(ec_key(), "b"), jwk(rsa_key(), "a")]}).encode())
    assert one.same_as(same)
    for other in [
        jwks(jwk(rsa_key(), "a")),
        jwks(jwk(rsa_key(), "b"), jwk(ec_key(), "a")),
        jwks(jwk(rsa_key("two"), "a"), jwk(ec_key(), "b")),
        jwks(jwk(rsa_key(), "a", alg="RS256"), jwk(ec_key(), "b")),
        jwks(jwk(rsa_key(), "a"), jwk(ec_key(), "b"), {"kty": "oct"}),
    ]:
        assert not one.same_as(parse_key_set(other))


def test_keys_are_left_out_by_thumbprint() -> None:
    """What belongs to somebody else goes, with the reason; the rest stays."""
    keys = parse_key_set(jwks(jwk(rsa_key(), "a"), jwk(ec_key(), "b")))
    rest = keys.without(frozenset({keys.keys["a"].thumbprint}), "not ours")
    assert list(rest.keys) == ["b"]
    assert rest.ignored == ("key 'a': not ours",)
    assert list(keys.keys) == ["a", "b"]


def test_a_key_belongs_to_the_cluster_that_has_it_first() -> None:
    """A second cluster is not granted it; within one cluster it may be held twice."""
    owners = KeyOwners()
    assert owners.claim("h1", "east", frozenset({"t1", "t2"})) == frozenset()
    assert owners.claim("h2", "west", frozenset({"t2", "t3"})) == {"t2"}
    assert owners.claim("h3", "east", frozenset({"t2"})) == frozenset()
    assert owners.claim("h1", "east", frozenset({"t3"})) == {"t3"}


def test_a_key_is_free_when_nobody_in_the_cluster_has_it_any_more() -> None:
    """A key that a refresh no longer shows may move to another cluster."""
    owners = KeyOwners()
    owners.claim("h1", "east", frozenset({"t1"}))
    owners.claim("h3", "east", frozenset({"t1"}))
    owners.claim("h1", "east", frozenset())
    assert owners.claim("h2", "west", frozenset({"t1"})) == {"t1"}
    owners.claim("h3", "east", frozenset())
    assert owners.claim("h2", "west", frozenset({"t1"})) == frozenset()
