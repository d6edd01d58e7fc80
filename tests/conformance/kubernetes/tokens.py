"""Makes tokens that no API server would make, with the key that it signs with."""

import base64
import json
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.conformance.kubernetes.cluster import ControlPlane


def forge(cluster: ControlPlane, token: str, **claims: Any) -> str:
    """Return a token like another one, with other claims and a cluster's signature.

    Args:
        cluster: Whose key signs.
        token: A token that a cluster made.
        claims: What it says instead.
    """
    header, payload = (_read(part) for part in token.split(".")[:2])
    return jwt.encode(header, {**payload, **claims}, RSAKey.import_key(cluster.token_key))


def _read(part: str) -> dict[str, Any]:
    padded = part + "=" * (-len(part) % 4)
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return document
