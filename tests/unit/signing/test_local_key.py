"""Tests of CA keys in memory: each signs with the algorithm of its kind."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from meshsigner.signing.local_key import local_key
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


@pytest.mark.parametrize("kind", ["rsa2048", "rsa4096"])
def test_rsa_signs_with_pkcs1v15_and_sha256(kind: str) -> None:
    """RSA of any size goes with PKCS #1 v1.5 and SHA-256."""
    key = make_key(kind)
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = local_key(key).sign(MESSAGE)
    assert key.key_size == 8 * len(signature)
    key.public_key().verify(signature, MESSAGE, padding.PKCS1v15(), hashes.SHA256())
