"""For which tokens each kind of key is good."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner.authn.compact_jws import ALGORITHMS
from meshsigner.authn.keys import UnusableKey, VerifyingKey, import_key, verify_signature
from meshsigner.authn.tokens import parse_token
from meshsigner.errors import Unauthenticated
from tests.fakes.tokens import (
    UNBOUND,
    PrivateKey,
    claims,
    ec_key,
    encode,
    encode_json,
    jwk,
    make_token,
    number,
    public_pem,
    rsa_key,
    sign,
    sign_parts,
)

RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})


HASHES = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}


def key_for(algorithm: str) -> PrivateKey:
    """Return a key of the kind that an algorithm needs."""
    return ec_key(algorithm) if algorithm.startswith("ES") else rsa_key()


def verify(key: VerifyingKey, text: str) -> None:
    """Check a token's signature alone."""
    verify_signature(key, parse_token(text))


def refused(key: VerifyingKey, text: str) -> str:
    """Return why a signature is refused."""
    with pytest.raises(Unauthenticated) as caught:
        verify(key, text)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_key_verifies_what_it_signed(algorithm: str) -> None:
    """Every algorithm works with its kind of key, and notices one changed letter."""
    private = key_for(algorithm)
    key = import_key(jwk(private))
    text = make_token(private, algorithm=algorithm)
    verify(key, text)
    header, payload, signature = text.split(".")
    other = encode_json(claims(sub="system:serviceaccount:foo:admin", **UNBOUND))
    assert refused(key, f"{header}.{other}.{signature}") == "the token's signature is wrong"
    swapped = ("B" if signature[0] != "B" else "C") + signature[1:]
    assert refused(key, f"{header}.{payload}.{swapped}") == "the token's signature is wrong"


def test_algorithms_fit_the_kind_of_key() -> None:
    """An RSA key is good for RS and PS, a curve for the one algorithm that names it."""
    assert frozenset(import_key(jwk(rsa_key())).verifiers) == RSA_ALGORITHMS
    for algorithm in ["ES256", "ES384", "ES512"]:
        assert list(import_key(jwk(ec_key(algorithm))).verifiers) == [algorithm]


@pytest.mark.parametrize("algorithm", ["ES256", "HS256", "none", "ES384"])
def test_another_kind_of_signature_is_refused(algorithm: str) -> None:
    """RFC 8725 3.1: the key decides which algorithms there are, never the token."""
    text = sign_parts(encode_json({"alg": algorithm, "kid": "k1"}), encode_json(claims()))
    key = import_key(jwk(rsa_key()))
    assert refused(key, text) == "the token's algorithm does not fit the key"


def test_hmac_with_the_public_key_is_refused() -> None:
    """The classical confusion: HS256 signed with the public key's PEM as the secret."""
    text = make_token(public_pem(rsa_key()), algorithm="HS256")
    key = import_key(jwk(rsa_key()))
    assert refused(key, text) == "the token's algorithm does not fit the key"


def test_hmac_that_calls_itself_rsa_is_refused() -> None:
    """A MAC under an RSA name is just a wrong signature."""
    header, payload = encode_json({"alg": "RS256", "kid": "k1"}), encode_json(claims())
    mac = encode(sign(public_pem(rsa_key()), "HS256", f"{header}.{payload}".encode()))
    key = import_key(jwk(rsa_key()))
    assert refused(key, f"{header}.{payload}.{mac}") == "the token's signature is wrong"


@pytest.mark.parametrize("signature", ["", "AA", encode(bytes(256)), encode(bytes(255) + b"\x01")])
def test_no_signature_and_trivial_ones_are_refused(signature: str) -> None:
    """An empty, short or zero signature never verifies."""
    signed = make_token().rpartition(".")[0]
    assert refused(import_key(jwk(rsa_key())), f"{signed}.{signature}").endswith("is wrong")


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_an_ecdsa_signature_has_one_length(algorithm: str) -> None:
    """RFC 7518 3.4: R and S of the curve's size; DER, zeros and padding are refused."""
    private = ec_key(algorithm)
    key = import_key(jwk(private))
    text = make_token(private, algorithm=algorithm)
    signed = text.rpartition(".")[0]
    good = parse_token(text).signature
    half = len(good) // 2
    der = private.sign(signed.encode(), ec.ECDSA(HASHES[algorithm]))
    longer = good[:half] + b"\0" + good[half:]  # the same numbers, written longer
    for bad in [der, bytes(2 * half), b"", b"\0" + good, good + b"\0", good[:-1], longer]:
        assert refused(key, f"{signed}.{encode(bad)}") == "the token's signature is wrong"


def test_an_ecdsa_signature_cannot_be_written_shorter() -> None:
    """Where S begins with a zero byte, leaving it out is refused as well."""
    private = ec_key()
    key = import_key(jwk(private))
    for _ in range(10_000):
        text = make_token(private, algorithm="ES256")
        good = parse_token(text).signature
        if good[32] == 0:
            break
    verify(key, text)
    shorter = f"{text.rpartition('.')[0]}.{encode(good[:32] + good[33:])}"
    assert refused(key, shorter) == "the token's signature is wrong"


def test_a_key_of_another_issuer_refuses() -> None:
    """The same key id with another key is no key for the token."""
    assert refused(import_key(jwk(rsa_key("two"))), make_token()).endswith("is wrong")


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"kid": None}, "no key id"),
        ({"kid": ""}, "no key id"),
        ({"kid": 1}, "no key id"),
        ({"use": "enc"}, "use is not sig"),
        ({"use": 1}, "use is not sig"),
        ({"key_ops": ["sign"]}, "key_ops is without verify"),
        ({"key_ops": []}, "key_ops is without verify"),
        ({"key_ops": "verify"}, "key_ops is without verify"),
        ({"alg": "ES256"}, "alg does not fit the key"),
        ({"alg": "HS256"}, "alg does not fit the key"),
        ({"alg": "RSA-OAEP"}, "alg does not fit the key"),
        ({"alg": 1}, "alg does not fit the key"),
        ({"kty": "OKP"}, "kty is neither RSA nor EC"),
        ({"kty": None}, "kty is neither RSA nor EC"),
        ({"kty": ["RSA"]}, "kty is neither RSA nor EC"),
        ({"n": None}, "n is missing or not a text"),
        ({"n": 5}, "n is missing or not a text"),
        ({"e": ""}, "e is missing or not a text"),
        ({"n": "+/=="}, "not an RSA public key (Error)"),
        ({"e": "AAAA"}, "not an RSA public key (ValueError)"),
        ({"e": number(2)}, "not an RSA public key (ValueError)"),
        ({"e": number(1)}, "not an RSA public key (ValueError)"),
        ({"e": number(3)}, "RSA exponent is not 65537"),
        ({"e": number(65535)}, "RSA exponent is not 65537"),
        ({"e": number(65539)}, "RSA exponent is not 65537"),
        ({"e": number(2**32 + 1)}, "RSA exponent is not 65537"),
        ({"d": "AQAB"}, "holds private or symmetric key material"),
        ({"p": ""}, "holds private or symmetric key material"),
    ],
)
def test_unusable_rsa_keys_are_named_and_left_out(changes: dict[str, Any], cause: str) -> None:
    """Purpose, algorithm, numbers and private material each have their refusal."""
    with pytest.raises(UnusableKey) as caught:
        import_key({k: v for k, v in {**jwk(rsa_key()), **changes}.items() if v is not None})
    assert str(caught.value) == cause


def test_a_symmetric_key_is_left_out() -> None:
    """RFC 7518 6.4: whoever may verify with it could sign with it."""
    with pytest.raises(UnusableKey, match="symmetric"):
        import_key({"kty": "oct", "k": "c2VjcmV0", "kid": "k1"})


@pytest.mark.parametrize("bits", [1024, 2040])
def test_short_rsa_keys_are_left_out(bits: int) -> None:
    """RFC 7518 3.3: RSA from 2048 bits."""
    with pytest.raises(UnusableKey, match=f"RSA modulus of {bits} bits"):
        import_key(jwk(rsa_key("short", bits)))


@pytest.mark.parametrize("bits", [2047, 8193, 16384])
def test_rsa_keys_outside_the_bounds_are_left_out(bits: int) -> None:
    """From 2048 to 8192 bits: a longer modulus would let every token cost milliseconds."""
    with pytest.raises(UnusableKey, match=f"RSA modulus of {bits} bits"):
        import_key({**jwk(rsa_key()), "n": number(2 ** (bits - 1) + 1)})


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_keys_at_the_bounds_are_taken(bits: int) -> None:
    """Both bounds are inside."""
    entry = {**jwk(rsa_key()), "n": number(2 ** (bits - 1) + 1)}
    assert frozenset(import_key(entry).verifiers) == RSA_ALGORITHMS


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"crv": "secp256k1"}, "crv is not P-256, P-384 or P-521"),
        ({"crv": None}, "crv is not P-256, P-384 or P-521"),
        ({"crv": ["P-256"]}, "crv is not P-256, P-384 or P-521"),
        ({"crv": "P-384"}, "not an EC public key (ValueError)"),
        ({"x": number(1)}, "not an EC public key (ValueError)"),
        ({"y": None}, "y is missing or not a text"),
        ({"alg": "RS256"}, "alg does not fit the key"),
        ({"d": "AQ"}, "holds private or symmetric key material"),
    ],
)
def test_unusable_ec_keys_are_named_and_left_out(changes: dict[str, Any], cause: str) -> None:
    """Other curves, points off the curve and missing coordinates are refused."""
    with pytest.raises(UnusableKey) as caught:
        import_key({k: v for k, v in {**jwk(ec_key()), **changes}.items() if v is not None})
    assert str(caught.value) == cause


def test_alg_narrows_a_key_to_one_algorithm() -> None:
    """RFC 7517 4.4: a key made for RS256 verifies no PS256."""
    key = import_key(jwk(rsa_key(), alg="RS256"))
    verify(key, make_token())
    assert refused(key, make_token(algorithm="PS256")).endswith("does not fit the key")


def test_key_ops_may_name_more_than_verify() -> None:
    """RFC 7517 4.3: `verify` among others is enough, and `use` may be absent."""
    key = import_key(jwk(rsa_key(), use=None, key_ops=["verify", "encrypt"]))
    assert key.key_id == "k1"


def test_thumbprints_are_those_of_rfc_7638() -> None:
    """The RFC's own example has the RFC's own thumbprint."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP"
        "ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY"
        "368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f"
        "M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    entry = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert import_key(entry).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_a_thumbprint_is_the_keys_not_the_spellings() -> None:
    """Leading zeros, another key id or purpose do not make another key."""
    private = rsa_key()
    numbers = private.public_key().public_numbers()
    padded = jwk(private, "other", use=None, n=encode(b"\0\0\0" + numbers.n.to_bytes(256)))
    assert import_key(padded).thumbprint == import_key(jwk(private)).thumbprint
    assert import_key(jwk(rsa_key("two"))).thumbprint != import_key(jwk(private)).thumbprint
    curve = jwk(ec_key())
    longer = {**curve, "x": encode(b"\0" + number_bytes(curve["x"]))}
    assert import_key(longer).thumbprint == import_key(curve).thumbprint


def number_bytes(text: str) -> bytes:
    """Read a JWK number back."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_causes_quote_no_key_material() -> None:
    """What is said of a private key that was published by mistake tells nothing of it."""
    private: rsa.RSAPrivateKey = rsa_key()
    d = number(private.private_numbers().d)
    with pytest.raises(UnusableKey) as caught:
        import_key({**jwk(private), "d": d})
    assert d not in str(caught.value)
    assert json.dumps(d) not in str(caught.value)
