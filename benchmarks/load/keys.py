"""Workload keys, made before the run; RSA keys are kept in a file between runs.

An RSA-2048 key takes some 50 ms to make, so a run draws them from a pool; P-256 keys
cost nothing and are always new. These keys guard nothing: no other party trusts them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

KeyType = Literal["rsa2048", "p256", "p384"]
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

RSA_POOL_SIZE: Final = 512
_MAKERS: Final = 2
_END: Final = b"-----END PRIVATE KEY-----\n"


def make_key(key_type: KeyType) -> Key:
    """Return a new key."""
    if key_type == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(65537, 2048)


def key_pool(key_type: KeyType, count: int, cache: Path, on_made: Callable[[], None]) -> list[Key]:
    """Return `count` different keys.

    Args:
        key_type: What Istio's clients use: sidecars RSA-2048, ztunnel P-256.
        count: How many are wanted.
        cache: Directory where RSA keys stay for the next run.
        on_made: Called for every key that had to be made.
    """
    file = cache / f"{key_type}-keys.pem"
    keys = _load(file)[:count] if key_type == "rsa2048" else []
    missing = count - len(keys)
    if not missing:
        return keys

    def make(_number: int) -> Key:
        key = make_key(key_type)
        on_made()
        return key

    with ThreadPoolExecutor(_MAKERS) as makers:
        keys += makers.map(make, range(missing))
    if key_type == "rsa2048":
        _save(file, keys)
    return keys


def _load(file: Path) -> list[Key]:
    if not file.exists():
        return []
    blocks = file.read_bytes().split(_END)[:-1]
    return [_load_one(block + _END) for block in blocks]


def _load_one(pem: bytes) -> Key:
    key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError(f"the key pool holds a {type(key).__name__}")
    return key


def _save(file: Path, keys: list[Key]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(b"".join(_pem(key) for key in keys))


def _pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
