"""Service-account tokens as a Kubernetes API server issues them, made in bulk.

The scenario hands in the key of an issuer that the server under test trusts: one
process a token would take longer than the run.

Source:
    A token from kube-apiserver 1.34's TokenRequest, bound to a pod on a node.
"""

import base64
import json
import uuid
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

IssuerKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

LIFETIME_S: Final = 43_200
"""What istio-agent's projected volume asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """Whom a token speaks for.

    Args:
        namespace: Its namespace.
        account: Its service account.
        name: Its own name.
        node: Name of the node it runs on.
    """

    namespace: str
    account: str
    name: str
    node: str = "node-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIssuer:
    """An issuer of service-account tokens.

    Args:
        key: RSA (RS256, what Kubernetes uses) or P-256 (ES256).
        key_id: The `kid` under which the server under test knows the key.
        issuer: The `iss` claim.
        audience: The `aud` claim's only element.
    """

    key: IssuerKey
    key_id: str
    issuer: str
    audience: str = "istio-ca"

    def mint(self, pod: Pod, issued_at: int) -> str:
        """Return a token for `pod`, valid from `issued_at` (seconds since the epoch)."""
        algorithm = "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"
        head = _segment({"alg": algorithm, "kid": self.key_id})
        signed = head + b"." + _segment(self._claims(pod, issued_at))
        return (signed + b"." + _base64url(self._sign(signed))).decode()

    def _claims(self, pod: Pod, issued_at: int) -> dict[str, Any]:
        return {
            "aud": [self.audience],
            "exp": issued_at + LIFETIME_S,
            "iat": issued_at,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": pod.namespace,
                "node": {"name": pod.node, "uid": _uid("node", pod.node)},
                "pod": {"name": pod.name, "uid": _uid("pod", pod.namespace, pod.name)},
                "serviceaccount": {
                    "name": pod.account,
                    "uid": _uid("serviceaccount", pod.namespace, pod.account),
                },
            },
            "nbf": issued_at,
            "sub": f"system:serviceaccount:{pod.namespace}:{pod.account}",
        }

    def _sign(self, data: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _uid(*names: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(names)))


def _segment(value: dict[str, Any]) -> bytes:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
