"""The mesh that a server under test serves: its CA, its token issuer, and what clients trust.

Files only, the same for every kind of server. The token issuer's key stays in the cache,
so that tokens made for one run are good for the next; a CA is new for each run.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, RSAKey

from benchmarks.load.keys import KeyType
from benchmarks.load.tokens import IssuerKey, TokenIssuer
from benchmarks.peers.authority import ISSUER, TRUST_DOMAIN, Authority, make_authority

_KEY_ID: Final = "bench"
_CA_FILES: Final = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
_DATA: Final = "..data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """What every server under test is given.

    Args:
        trust_domain: Of all identities.
        tokens: The issuer of the callers' tokens.
        jwks: File with its public keys.
        ca: Directory with the CA in the layout of Istio's secret `cacerts`, whose files
            are links that are replaced together, as Kubernetes mounts a secret.
        authority: Serving certificate and key, made under that CA.
        roots: PEM file with all roots that clients trust, those of a later CA too.
    """

    trust_domain: str
    tokens: TokenIssuer
    jwks: Path
    ca: Path
    authority: Authority
    roots: Path

    def trusted(self) -> list[x509.Certificate]:
        """Return the roots that chains may lead to."""
        return x509.load_pem_x509_certificates(self.roots.read_bytes())

    def rotate(self) -> None:
        """Put the other CA in the place of the one in use, in one step."""
        current = (self.ca / _DATA).readlink().name
        _point(self.ca, "second" if current == "first" else "first")


def make_mesh(directory: Path, cache: Path, ca_key: KeyType) -> Mesh:
    """Make a mesh with two CAs, of which the first is in use and both are announced.

    Args:
        directory: Gets its files.
        cache: Where the token issuer's key stays.
        ca_key: Kind of the CAs' keys; the serving certificate's is P-256.
    """
    authorities = [
        make_authority(directory / name, ca_key=ca_key, serving_key="p256")
        for name in ("made-first", "made-second")
    ]
    ca = directory / "ca"
    ca.mkdir()
    pems = [authority.roots.read_bytes() for authority in authorities]
    _publish(ca / "first", authorities[0], pems[0] + pems[1])
    _publish(ca / "second", authorities[1], pems[1] + pems[0])
    _point(ca, "first")
    for name in _CA_FILES:
        (ca / name).symlink_to(Path(_DATA) / name)
    roots, jwks = directory / "roots.pem", directory / "jwks.json"
    roots.write_bytes(b"".join(pems))
    tokens = load_token_issuer(cache / "token-issuer.pem", make=True)
    jwks.write_text(json.dumps(public_keys(tokens)))
    return Mesh(
        trust_domain=TRUST_DOMAIN,
        tokens=tokens,
        jwks=jwks,
        ca=ca,
        authority=authorities[0],
        roots=roots,
    )


def load_token_issuer(
    file: Path,
    *,
    make: bool = False,
    key_id: str = _KEY_ID,
    issuer: str = ISSUER,
    audience: str = "istio-ca",
) -> TokenIssuer:
    """Return a token issuer by its private key.

    Args:
        file: PEM of the key.
        make: Whether a new RSA key is put there if there is none.
        key_id: The `kid` under which the server knows it.
        issuer: The `iss` of its tokens.
        audience: Whom its tokens are made for.

    Raises:
        TypeError: It is neither an RSA nor an EC key.
    """
    if make and not file.exists():
        _write_key(file, rsa.generate_private_key(65537, 2048))
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError(f"{file} holds a {type(key).__name__}; expected an RSA or EC key")
    return TokenIssuer(key=key, key_id=key_id, issuer=issuer, audience=audience)


def public_keys(tokens: TokenIssuer) -> dict[str, object]:
    """Return the JWK set that a server needs to believe an issuer's tokens."""
    return {"keys": [_public_jwk(tokens)]}


def _publish(directory: Path, authority: Authority, roots: bytes) -> None:
    """Copy a CA's files to where a server may find them, with these roots announced."""
    directory.mkdir()
    for name in _CA_FILES:
        shutil.copy(authority.ca / name, directory / name)  # with its mode
    (directory / "root-cert.pem").write_bytes(roots)


def _point(ca: Path, name: str) -> None:
    fresh = ca / "..data_tmp"
    fresh.symlink_to(name)
    fresh.rename(ca / _DATA)


def _public_jwk(tokens: TokenIssuer) -> dict[str, object]:
    rs256 = isinstance(tokens.key, rsa.RSAPrivateKey)
    pem = _pem_of(tokens.key)
    key = RSAKey.import_key(pem) if rs256 else ECKey.import_key(pem)
    named = {"kid": tokens.key_id, "alg": "RS256" if rs256 else "ES256", "use": "sig"}
    return {**key.as_dict(private=False), **named}


def _pem_of(key: IssuerKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _write_key(file: Path, key: rsa.RSAPrivateKey) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
