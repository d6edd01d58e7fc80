"""Which public key verifies which token.

Decides for which algorithms a JWK is good, and verifies signatures with keys
that were imported once: by hand, for that costs half of what a
library's way through each token does (docs/adr/0011). Which keys there
are is `key_sets`; none ever comes from a token.

Source: RFC 7517 4 (JWK), RFC 7518 3 (algorithms), RFC 7638 (thumbprints),
RFC 8725 3.2 and 3.5 (the algorithm fits the key, enough entropy).
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, RSAKey

from meshsigner.authn.tokens import UnverifiedToken
from meshsigner.errors import Unauthenticated

MIN_RSA_BITS = 2_048  # RFC 7518 3.3
MAX_RSA_BITS = 8_192  # a longer one costs a verifier milliseconds
RSA_EXPONENT = 65_537  # what every generator makes; 1 would verify anything, 3 forgives much

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}  # RFC 7518 3.4
_COORDINATE_BYTES = {"P-256": 32, "P-384": 48, "P-521": 66}

Verifier = Callable[[bytes, bytes], None]


class UnusableKey(ValueError):
    """A JWK cannot verify tokens; the text says why and quotes no key material."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """A public key that may verify tokens.

    Attributes:
        key_id: Its `kid`.
        thumbprint: RFC 7638 SHA-256 thumbprint of the key itself, whatever its
            `kid` and however its numbers were written.
        verifiers: For each algorithm that the key is good for, a function of
            signature and message that raises `InvalidSignature`.
    """

    key_id: str
    thumbprint: str
    verifiers: Mapping[str, Verifier]


def verify_signature(key: VerifyingKey, token: UnverifiedToken) -> None:
    """Check that a key signed a token.

    Raises:
        Unauthenticated: It did not, or the token's algorithm is not the key's.
    """
    verifier = key.verifiers.get(token.algorithm)
    if verifier is None:
        raise Unauthenticated("the token's algorithm does not fit the key")
    try:
        verifier(token.signature, token.signed)
    except InvalidSignature:
        raise Unauthenticated("the token's signature is wrong") from None


def import_key(entry: Mapping[str, Any]) -> VerifyingKey:
    """Take one entry of a JWK set.

    Raises:
        UnusableKey: No key id; private or symmetric material; made for
            something else; a kind or size that is not allowed; not a key.
    """
    key_id = entry.get("kid")
    if not isinstance(key_id, str) or not key_id:
        raise UnusableKey("no key id")
    # Private keys in a set were published by mistake, and whoever read them can
    # sign; a symmetric one would let every verifier sign.
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise UnusableKey("holds private or symmetric key material")
    _check_purpose(entry)
    thumbprint, verifiers = _import_by_type(entry)
    if "alg" in entry:
        verifiers = {a: v for a, v in verifiers.items() if a == entry["alg"]}
    if not verifiers:
        raise UnusableKey("alg does not fit the key")
    return VerifyingKey(
        key_id=key_id,
        thumbprint=thumbprint,
        verifiers=MappingProxyType(verifiers),
    )


def _check_purpose(entry: Mapping[str, Any]) -> None:
    """Respect `use` and `key_ops` (RFC 7517 4.2 and 4.3)."""
    if entry.get("use", "sig") != "sig":
        raise UnusableKey("use is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("key_ops is without verify")


def _import_by_type(entry: Mapping[str, Any]) -> tuple[str, dict[str, Verifier]]:
    match entry.get("kty"):
        case "RSA":
            return _import_rsa(entry)
        case "EC":
            return _import_ec(entry)
    raise UnusableKey("kty is neither RSA nor EC")


def _import_rsa(entry: Mapping[str, Any]) -> tuple[str, dict[str, Verifier]]:
    public = _texts(entry, "kty", "n", "e")
    try:
        with warnings.catch_warnings():
            # the library only warns of short keys; they are refused below
            warnings.simplefilter("ignore", SecurityWarning)
            key = RSAKey.import_key(public).public_key
    except (JoseError, ValueError) as error:
        raise UnusableKey(f"not an RSA public key ({type(error).__name__})") from None
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise UnusableKey(f"RSA modulus of {key.key_size} bits, allowed are 2048 to 8192")
    if key.public_numbers().e != RSA_EXPONENT:
        raise UnusableKey("RSA exponent is not 65537")
    verifiers: dict[str, Verifier] = {}
    for size, hash_ in _HASHES.items():
        # RFC 7518 3.5: MGF1 with the same hash, salt as long as the digest
        pss = padding.PSS(padding.MGF1(hash_), padding.PSS.DIGEST_LENGTH)
        verifiers[f"RS{size}"] = partial(_verify_rsa, key, padding.PKCS1v15(), hash_)
        verifiers[f"PS{size}"] = partial(_verify_rsa, key, pss, hash_)
    return RSAKey.import_key(key).thumbprint(), verifiers


def _import_ec(entry: Mapping[str, Any]) -> tuple[str, dict[str, Verifier]]:
    curve = entry.get("crv")
    if not isinstance(curve, str) or curve not in _CURVES:
        raise UnusableKey("crv is not P-256, P-384 or P-521")
    public = _texts(entry, "kty", "crv", "x", "y")
    try:
        key = ECKey.import_key(public).public_key
    except (JoseError, ValueError) as error:
        raise UnusableKey(f"not an EC public key ({type(error).__name__})") from None
    algorithm = _CURVES[curve]
    ecdsa = ec.ECDSA(_HASHES[algorithm.removeprefix("ES")])
    verify = partial(_verify_ec, key, ecdsa, _COORDINATE_BYTES[curve])
    return ECKey.import_key(key).thumbprint(), {algorithm: verify}


def _texts(entry: Mapping[str, Any], *names: str) -> dict[str, str | list[str]]:
    """Pick the members that make the public key; nothing else reaches the library."""
    members: dict[str, str | list[str]] = {}
    for name in names:
        value = entry.get(name)
        if not isinstance(value, str) or not value:
            raise UnusableKey(f"{name} is missing or not a text")
        members[name] = value
    return members


def _verify_rsa(
    key: rsa.RSAPublicKey,
    scheme: padding.AsymmetricPadding,
    hash_: hashes.HashAlgorithm,
    signature: bytes,
    message: bytes,
) -> None:
    key.verify(signature, message, scheme, hash_)


def _verify_ec(
    key: ec.EllipticCurvePublicKey,
    ecdsa: ec.ECDSA,
    size: int,
    signature: bytes,
    message: bytes,
) -> None:
    """Verify R || S, each of the curve's size (RFC 7518 3.4)."""
    if len(signature) != 2 * size:
        raise InvalidSignature
    r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
    key.verify(utils.encode_dss_signature(r, s), message, ecdsa)
