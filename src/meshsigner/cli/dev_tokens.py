"""A development token issuer: stands in for a cluster that signs service-account tokens.

Makes tokens of the exact shape that Kubernetes issues for a pod's projected
volume. For development only: whoever can read its key can be anybody.

Source: kubernetes pkg/serviceaccount/claims.go.
"""

import json
import os
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from joserfc import jws
from joserfc.jwk import RSAKey

from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, write_file

ISSUER = "https://kubernetes.default.svc.cluster.local"
NODE = "dev-node"
_ALGORITHM = "RS256"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """What a token shall say.

    Attributes:
        namespace: Of the service account.
        service_account: Its name.
        audiences: Whom the token is for.
        lifetime: From now on; negative makes an expired token.
        pod: The pod that it is bound to; empty for a token without one.
    """

    namespace: str
    service_account: str
    audiences: tuple[str, ...]
    lifetime: timedelta
    pod: str


class TokenIssuer:
    """Signs tokens with the development key."""

    def __init__(self, key: RSAKey) -> None:
        self._key = key

    @classmethod
    def load(cls, key_file: Path) -> Self:
        """Read the key.

        Raises:
            OSError: The file cannot be read.
            ValueError: It holds no RSA key.
        """
        return cls(RSAKey.import_key(key_file.read_bytes()))

    @classmethod
    def load_or_create(cls, key_file: Path, jwks_file: Path) -> Self:
        """Read the key, or make one (mode 0600) and write its JWKS.

        Raises:
            OSError: A file cannot be read or written.
            ValueError: The key file holds no RSA key.
        """
        if not key_file.exists():
            key = RSAKey.generate_key(2048, private=True)
            write_file(key_file, key.as_pem(private=True), mode=PRIVATE_MODE)
        issuer = cls.load(key_file)
        write_file(jwks_file, json.dumps(issuer.jwks(), indent=1).encode(), mode=PUBLIC_MODE)
        return issuer

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a key set, as a cluster's /openid/v1/jwks does."""
        public = self._key.as_dict(private=False)
        kid = self._key.thumbprint()
        return {"keys": [{"use": "sig", "kid": kid, "alg": _ALGORITHM, **public}]}

    def issue(self, wish: TokenWish, now: datetime) -> str:
        """Sign a token.

        Args:
            wish: What it shall say.
            now: When it is issued.
        """
        header = {"alg": _ALGORITHM, "kid": self._key.thumbprint()}
        claims = json.dumps(build_claims(wish, now), separators=(",", ":"))
        return jws.serialize_compact(header, claims.encode(), self._key)


def build_claims(wish: TokenWish, now: datetime) -> dict[str, Any]:
    """Build the claims, named and ordered as the API server does.

    Args:
        wish: What they shall say.
        now: Time of issue.
    """
    issued_s = int(now.timestamp())
    namespace, account = wish.namespace, wish.service_account
    bound: dict[str, Any] = {"namespace": namespace}
    if wish.pod:
        bound["node"] = _named(NODE, "node")
        bound["pod"] = _named(wish.pod, f"pod/{namespace}")
    bound["serviceaccount"] = _named(account, f"serviceaccount/{namespace}")
    return {
        "aud": list(wish.audiences),
        "exp": issued_s + int(wish.lifetime.total_seconds()),
        "iat": issued_s,
        "iss": ISSUER,
        "jti": str(uuid.UUID(bytes=os.urandom(16), version=4)),
        "kubernetes.io": bound,
        "nbf": issued_s,
        "sub": f"system:serviceaccount:{namespace}:{account}",
    }


def _named(name: str, kind: str) -> dict[str, str]:
    """Name an object; its UID is the same each time, as a living object's is."""
    return {"name": name, "uid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}"))}
