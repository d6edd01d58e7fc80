"""Keys that sign test requests, each the same at every run.

RSA and DSA keys lie in csr/keys, made once and used for nothing else; the
others are derived from fixed numbers. All signatures are deterministic
(RFC 6979 for ECDSA, an empty salt for PSS), so that the vectors can be made
anew and compared byte by byte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from tests.vectors.der import bit_string, integer, null, oid, seq

KEYS = Path(__file__).parent / "csr" / "keys"
SHA256, SHA384, SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()
SHA1, MD5 = hashes.SHA1(), hashes.MD5()  # noqa: S303 - what must be refused
_FIXED_SCALAR = 0x6D657368736967_6E6572

RSA_ENCRYPTION, RSASSA_PSS = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_RSA_SIGNATURES = {
    "md5": "1.2.840.113549.1.1.4",
    "sha1": "1.2.840.113549.1.1.5",
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_ECDSA_SIGNATURES = {
    "sha1": "1.2.840.10045.4.1",
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key pair in the form that a request needs.

    Attributes:
        spki: SubjectPublicKeyInfo, DER.
        algorithm: AlgorithmIdentifier of the signature, DER.
        sign: Signs the request's first part.
    """

    spki: bytes
    algorithm: bytes
    sign: Callable[[bytes], bytes]


def rsa_key(name: str, digest: hashes.HashAlgorithm = SHA256) -> Signer:
    """Load an RSA key of csr/keys that signs by PKCS #1 v1.5."""
    key = _load_rsa(name)
    return Signer(
        spki=_spki(key.public_key()),
        algorithm=seq(oid(_RSA_SIGNATURES[digest.name]), null()),
        sign=lambda data: key.sign(data, padding.PKCS1v15(), digest),
    )


def rsa_pss(name: str) -> Signer:
    """Load an RSA key that signs by PSS, SHA-256, without salt."""
    key = _load_rsa(name)
    sha256 = seq(oid("2.16.840.1.101.3.4.2.1"), null())
    parameters = seq(
        _explicit(0, sha256),
        _explicit(1, seq(oid("1.2.840.113549.1.1.8"), sha256)),
        _explicit(2, integer(0)),
    )
    scheme = padding.PSS(mgf=padding.MGF1(SHA256), salt_length=0)
    return Signer(
        spki=_spki(key.public_key()),
        algorithm=seq(oid(RSASSA_PSS), parameters),
        sign=lambda data: key.sign(data, scheme, SHA256),
    )


def ec_key(curve: ec.EllipticCurve, digest: hashes.HashAlgorithm = SHA256) -> Signer:
    """Derive an EC key of a curve."""
    key = ec.derive_private_key(_FIXED_SCALAR, curve)
    scheme = ec.ECDSA(digest, deterministic_signing=True)
    return Signer(
        spki=_spki(key.public_key()),
        algorithm=seq(oid(_ECDSA_SIGNATURES[digest.name])),
        sign=lambda data: key.sign(data, scheme),
    )


def p256() -> Signer:
    """Derive the key of most cases."""
    return ec_key(ec.SECP256R1())


def ed25519_key() -> Signer:
    """Derive an Ed25519 key."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(b"m" * 32)
    return Signer(spki=_spki(key.public_key()), algorithm=seq(oid("1.3.101.112")), sign=key.sign)


def ed448_key() -> Signer:
    """Derive an Ed448 key."""
    key = ed448.Ed448PrivateKey.from_private_bytes(b"m" * 57)
    return Signer(spki=_spki(key.public_key()), algorithm=seq(oid("1.3.101.113")), sign=key.sign)


def dsa_key() -> Signer:
    """Load a DSA public key of csr/keys; DSA signatures are random, so this one is none."""
    public = load_pem_public_key((KEYS / "dsa2048.pub.pem").read_bytes())
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return without_private_key(spki, seq(oid("2.16.840.1.101.3.4.3.2")))


def without_private_key(spki: bytes, algorithm: bytes) -> Signer:
    """Carry a key for which nobody can sign; the signature is filler."""
    return Signer(spki=spki, algorithm=algorithm, sign=lambda _: b"\x5a" * 64)


def rsa_numbers(modulus: int, exponent: int) -> Signer:
    """Carry an RSA key of any two numbers."""
    spki = seq(
        seq(oid(RSA_ENCRYPTION), null()),
        bit_string(seq(integer(modulus), integer(exponent))),
    )
    return without_private_key(spki, seq(oid(_RSA_SIGNATURES["sha256"]), null()))


def rsa2048_modulus() -> int:
    """Return the modulus of the usual RSA key."""
    return _load_rsa("rsa2048").public_key().public_numbers().n


def p256_point() -> tuple[int, int]:
    """Return the coordinates of the usual P-256 key."""
    key = ec.derive_private_key(_FIXED_SCALAR, ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    return numbers.x, numbers.y


def p256_with_spki(spki: bytes) -> Signer:
    """Sign truly with the usual P-256 key, its public half in another form."""
    usual = p256()
    return Signer(spki=spki, algorithm=usual.algorithm, sign=usual.sign)


@cache
def _load_rsa(name: str) -> rsa.RSAPrivateKey:
    # The check of the primes costs seconds for 8,192 bits; these are our own keys.
    key = load_pem_private_key(
        (KEYS / f"{name}.pem").read_bytes(),
        None,
        unsafe_skip_rsa_key_validation=True,
    )
    if not isinstance(key, rsa.RSAPrivateKey):
        msg = f"{name} is no RSA key"
        raise TypeError(msg)
    return key


def _spki(
    key: rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey,
) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _explicit(number: int, content: bytes) -> bytes:
    return bytes([0xA0 | number, len(content)]) + content
