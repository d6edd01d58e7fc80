"""An issuer of service-account tokens whose every part a test may bend.

Makes what kube-apiserver makes by default: claims, headers and JWK set have the
shape of the recorded ones (tests/vectors/recorded).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "istio-ca"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_CURVE_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@cache
def rsa_key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    """Make a key once for each name."""
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key(algorithm: str = "ES256", name: str = "one") -> ec.EllipticCurvePrivateKey:
    """Make a key once for each name."""
    del name
    return ec.generate_private_key(_CURVES[algorithm])


def encode(data: bytes) -> str:
    """Write base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_json(value: object) -> str:
    """Write JSON in base64url."""
    return encode(json.dumps(value, separators=(",", ":")).encode())


def number(value: int, size: int | None = None) -> str:
    """Write an integer as JWKs do."""
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8))


def jwk(key: PrivateKey, kid: str = "k1", **members: object) -> dict[str, Any]:
    """Return the public JWK of a key; members override, None removes."""
    if isinstance(key, rsa.RSAPrivateKey):
        rsa_numbers = key.public_key().public_numbers()
        public = {"kty": "RSA", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e)}
    else:
        ec_numbers = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        x, y = number(ec_numbers.x, size), number(ec_numbers.y, size)
        public = {"kty": "EC", "crv": _CURVE_NAMES[key.curve.name], "x": x, "y": y}
    entry = {**public, "kid": kid, "use": "sig", **members}
    return {name: value for name, value in entry.items() if value is not None}


def jwks(*entries: Mapping[str, Any]) -> bytes:
    """Return a JWK set."""
    return json.dumps({"keys": list(entries)}).encode()


UNBOUND: dict[str, Any] = {"kubernetes.io": None}  # a token without the private claim


def private(value: object) -> dict[str, Any]:
    """Return the change of claims that replaces the private one."""
    return {"kubernetes.io": value}


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a pod's token; changes override, None removes."""
    base: dict[str, Any] = {
        "aud": [AUDIENCE],
        "exp": NOW_S + 3600,
        "iat": NOW_S - 60,
        "iss": ISSUER,
        "jti": "b6b573b3-3304-42ec-a947-bc740b137d5b",
        "kubernetes.io": {
            "namespace": "foo",
            "node": {"name": "node-1", "uid": "node-uid"},
            "pod": {"name": "bar-0", "uid": "pod-uid"},
            "serviceaccount": {"name": "bar", "uid": "account-uid"},
        },
        "nbf": NOW_S - 60,
        "sub": "system:serviceaccount:foo:bar",
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def sign(key: PrivateKey | bytes | None, algorithm: str, message: bytes) -> bytes:
    """Sign as JWS does; bytes are an HMAC secret, None signs nothing."""
    if key is None:
        return b""
    if isinstance(key, bytes):
        return hmac.new(key, message, hashlib.sha256).digest()
    hash_ = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(hash_), padding.PSS.DIGEST_LENGTH)
        return key.sign(message, pss if algorithm.startswith("PS") else padding.PKCS1v15(), hash_)
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hash_)))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def make_token(
    key: PrivateKey | bytes | None = None,
    *,
    kid: object = "k1",
    algorithm: str = "RS256",
    header: Mapping[str, object] | None = None,
    **changes: Any,
) -> str:
    """Make a token: by default a good one.

    Args:
        key: Signs it; None takes the default RSA key.
        kid: Header member, None leaves it out.
        algorithm: Header member and how it is signed.
        header: More header members.
        changes: Claims that differ; None removes one.
    """
    members = {"alg": algorithm, "kid": kid, **(header or {})}
    members = {name: value for name, value in members.items() if value is not None}
    return sign_parts(encode_json(members), encode_json(claims(**changes)), key, algorithm)


def sign_parts(
    header: str,
    payload: str,
    key: PrivateKey | bytes | None = None,
    algorithm: str = "RS256",
) -> str:
    """Make a token of two segments as they are."""
    signed = f"{header}.{payload}"
    signature = sign(rsa_key() if key is None else key, algorithm, signed.encode())
    return f"{signed}.{encode(signature)}"


def public_pem(key: PrivateKey) -> bytes:
    """Return the public key as PEM, the classical HMAC secret of confused verifiers."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
