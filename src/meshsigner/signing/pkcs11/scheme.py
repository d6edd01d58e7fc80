"""How a CA key signs through PKCS #11: mechanism, what goes in, what comes out.

Decides which mechanism is used for which key, from what the token offers. The
hash belongs to the key, as in `signing.local_key`; where the token cannot hash
for ECDSA it gets the digest. ECDSA comes out as r and s side by side and is
turned into DER.

Source: PKCS #11 v2.40 2.1.12, 2.3.6 (CKM_ECDSA: r and s, each as long as the
order); RFC 8017 9.2 (DigestInfo); RFC 3279 2.2.3 (ECDSA-Sig-Value).
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import Mechanism

from meshsigner.errors import ConfigurationError
from meshsigner.signing.keyed import CaPublicKey

_DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


class Malformed(Exception):
    """What the token returned is no signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How one key signs.

    Attributes:
        mechanism: What the token is asked for.
        prepare: From the message to what the token gets.
        finish: From what the token returns to the signature as X.509 has it.
    """

    mechanism: Mechanism
    prepare: Callable[[bytes], bytes]
    finish: Callable[[bytes], bytes]


def choose_scheme(public_key: CaPublicKey, offered: Collection[object]) -> Scheme:
    """Choose how to sign.

    Args:
        public_key: The CA's.
        offered: The token's mechanisms.

    Raises:
        ConfigurationError: The token offers nothing that fits the key.
    """
    schemes = _rsa() if isinstance(public_key, rsa.RSAPublicKey) else _ecdsa(public_key)
    for scheme in schemes:
        if scheme.mechanism in offered:
            return scheme
    wanted = " or ".join(f"CKM_{scheme.mechanism.name}" for scheme in schemes)
    raise ConfigurationError(
        f"the token offers no mechanism for the CA's key; expected {wanted}; use a key of another "
        "kind, or let the HSM's policy allow it"
    )


def _rsa() -> tuple[Scheme, ...]:
    return (
        Scheme(mechanism=Mechanism.SHA256_RSA_PKCS, prepare=bytes, finish=bytes),
        Scheme(mechanism=Mechanism.RSA_PKCS, prepare=_digest_info, finish=bytes),
    )


def _ecdsa(public_key: ec.EllipticCurvePublicKey) -> tuple[Scheme, ...]:
    """Prefer to hash here: nearly every token has the plain mechanism, and a digest is short."""
    is_p384 = isinstance(public_key.curve, ec.SECP384R1)
    whole = Mechanism.ECDSA_SHA384 if is_p384 else Mechanism.ECDSA_SHA256
    octets = 48 if is_p384 else 32

    def digest(message: bytes) -> bytes:
        return (hashlib.sha384 if is_p384 else hashlib.sha256)(message).digest()

    def finish(raw: bytes) -> bytes:
        return _der(raw, octets)

    return (
        Scheme(mechanism=Mechanism.ECDSA, prepare=digest, finish=finish),
        Scheme(mechanism=whole, prepare=bytes, finish=finish),
    )


def _digest_info(message: bytes) -> bytes:
    return _DIGEST_INFO_SHA256 + hashlib.sha256(message).digest()


def _der(raw: bytes, octets: int) -> bytes:
    """Turn r and s side by side into an ECDSA-Sig-Value."""
    if len(raw) != 2 * octets:
        raise Malformed(f"an ECDSA signature of {len(raw)} bytes, expected {2 * octets}")
    r, s = (int.from_bytes(half, "big") for half in (raw[:octets], raw[octets:]))
    return encode_dss_signature(r, s)
