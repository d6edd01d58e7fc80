"""Tests of CA keys in memory: each signs with the algorithm of its kind."""

from typing import cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from meshsigner.errors import BackendUnavailable
from meshsigner.signing.local_key import P256Key, local_key
from tests.fakes.authority import make_key

MESSAGE = b"a TBSCertificate"


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("p256", hashes.SHA256()), ("p384", hashes.SHA384())],
)
def test_ecdsa_signs_with_the_digest_of_its_curve(kind: str, digest: hashes.HashAlgorithm) -> None:
    """P-256 goes with SHA-256, P-384 with SHA-384; the signature verifies as such."""
    key = make_key(kind)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    key.public_key().verify(local_key(key).sign(MESSAGE), MESSAGE, ec.ECDSA(digest))


def test_p256_signs_the_same_message_alike() -> None:
    """The nonce follows from key and message, so that a second signature can be compared."""
    signer = local_key(make_key("p256"))
    assert signer.sign(MESSAGE) == signer.sign(MESSAGE)
    assert signer.sign(MESSAGE) != signer.sign(MESSAGE + b"!")


def test_a_computation_gone_wrong_is_found_out() -> None:
    """Two signatures of one message that differ are a fault: neither leaves."""

    class Faulty:
        """A processor that errs every second time."""

        def __init__(self) -> None:
            self._key = ec.generate_private_key(ec.SECP256R1())
            self._calls = 0

        def sign(self, message: bytes, algorithm: ec.ECDSA) -> bytes:
            """Sign, or sign with a bit flipped."""
            self._calls += 1
            flipped = bytes((message[0] ^ (self._calls % 2), *message[1:]))
            return self._key.sign(flipped, algorithm)

    with pytest.raises(BackendUnavailable, match="two signatures of one message"):
        P256Key(cast("ec.EllipticCurvePrivateKey", Faulty())).sign(MESSAGE)


@pytest.mark.parametrize("kind", ["rsa2048", "rsa4096"])
def test_rsa_signs_with_pkcs1v15_and_sha256(kind: str) -> None:
    """RSA of any size goes with PKCS #1 v1.5 and SHA-256."""
    key = make_key(kind)
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = local_key(key).sign(MESSAGE)
    assert key.key_size == 8 * len(signature)
    key.public_key().verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
