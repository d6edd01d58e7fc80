"""Tests of signing schemes: each key with what its token offers, verified by a library."""

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from pkcs11 import Mechanism

from meshsigner.errors import ConfigurationError
from meshsigner.signing.pkcs11.scheme import Malformed, choose_scheme
from tests.fakes.authority import make_key

MESSAGE = b"to be signed"
CURVES = {"p256": (hashes.SHA256(), 32), "p384": (hashes.SHA384(), 48)}


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_ecdsa_is_hashed_here_and_returned_as_der(kind: str) -> None:
    """The token gets a digest and returns r and s; what comes out verifies as X.509 has it."""
    key = make_key(kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    digest, octets = CURVES[kind]
    scheme = choose_scheme(key.public_key(), {Mechanism.ECDSA, Mechanism.ECDSA_SHA256})
    assert scheme.mechanism is Mechanism.ECDSA
    der = key.sign(scheme.prepare(MESSAGE), ec.ECDSA(Prehashed(digest)))
    raw = b"".join(number.to_bytes(octets, "big") for number in decode_dss_signature(der))
    key.public_key().verify(scheme.finish(raw), MESSAGE, ec.ECDSA(digest))


def test_token_that_hashes_gets_the_message() -> None:
    """Where only the whole mechanism is there, the message goes in as it is."""
    scheme = choose_scheme(make_key("p256").public_key(), {Mechanism.ECDSA_SHA256})
    assert (scheme.mechanism, scheme.prepare(MESSAGE)) == (Mechanism.ECDSA_SHA256, MESSAGE)


@pytest.mark.parametrize("size", [0, 63, 65, 96])
def test_signature_of_another_length_is_none(size: int) -> None:
    """Half a signature, or one of another curve, is not turned into DER."""
    scheme = choose_scheme(make_key("p256").public_key(), {Mechanism.ECDSA})
    with pytest.raises(Malformed, match=f"of {size} bytes, expected 64"):
        scheme.finish(bytes(size))


def test_rsa_prefers_the_token_s_hash() -> None:
    """SHA256_RSA_PKCS gets the message; where it lacks, RSA_PKCS gets the DigestInfo."""
    key = make_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    both = {Mechanism.RSA_PKCS, Mechanism.SHA256_RSA_PKCS}
    assert choose_scheme(key.public_key(), both).prepare(MESSAGE) == MESSAGE
    scheme = choose_scheme(key.public_key(), {Mechanism.RSA_PKCS})
    info = scheme.prepare(MESSAGE)
    recovered = key.public_key().recover_data_from_signature(
        key.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256()), padding.PKCS1v15(), None
    )
    assert info == recovered
    assert info.endswith(hashlib.sha256(MESSAGE).digest())


@pytest.mark.parametrize(
    ("kind", "words"),
    [("rsa2048", "CKM_SHA256_RSA_PKCS or CKM_RSA_PKCS"), ("p384", "CKM_ECDSA or CKM_ECDSA_SHA384")],
)
def test_missing_mechanism_is_named(kind: str, words: str) -> None:
    """A token that cannot do what the key needs says which mechanism would."""
    with pytest.raises(ConfigurationError, match=words):
        choose_scheme(make_key(kind).public_key(), {Mechanism.AES_CBC})
