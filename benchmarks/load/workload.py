"""What the calls of a run ask for: identities, keys, CSRs and tokens, all made before it.

Every call has an identity, a token and a CSR of its own. P-256 keys are new for each
call; RSA keys come round again after the pool's size, far more than are in flight.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from benchmarks.load.calls import Call
from benchmarks.load.headers import token_block
from benchmarks.load.keys import Key
from benchmarks.load.messages import encode_request
from benchmarks.load.tokens import Pod, TokenIssuer

ASKED_LIFETIME_S: Final = 86_400
"""What istio-agent and ztunnel ask for by default."""

_NAMESPACES: Final = 50
_MAKERS: Final = 2
_SUBJECT: Final = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to make calls.

    Args:
        tokens: Issuer that the server under test trusts.
        keys: Keys to draw from, one after the other.
        trust_domain: The mesh's.
        prefix: Start of every service account's name, so that runs don't mix.
    """

    tokens: TokenIssuer
    keys: Sequence[Key]
    trust_domain: str
    prefix: str

    def make_calls(self, number: int, on_made: Callable[[], None]) -> list[Call]:
        """Return `number` calls, each with another identity."""
        issued_at = int(time.time())

        def make(index: int) -> Call:
            call = self._make_call(index, issued_at)
            on_made()
            return call

        with ThreadPoolExecutor(_MAKERS) as makers:
            return list(makers.map(make, range(number)))

    def _make_call(self, index: int, issued_at: int) -> Call:
        key = self.keys[index % len(self.keys)]
        account = f"{self.prefix}-{index}"
        namespace = f"bench-{index % _NAMESPACES}"
        identity = f"spiffe://{self.trust_domain}/ns/{namespace}/sa/{account}"
        pod = Pod(namespace=namespace, account=account, name=f"{account}-0")
        csr_pem = build_csr(key, identity)
        return Call(
            token_block=token_block(self.tokens.mint(pod, issued_at)),
            body=encode_request(csr_pem, ASKED_LIFETIME_S, {"CertSigner": ""}),
            public_key_der=key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            uri_san=identity,
        )


def build_csr(key: Key, identity: str) -> bytes:
    """Return the PEM of a CSR like istio-agent's: empty O, one critical URI SAN.

    Source:
        istio/istio security/pkg/pki/util/generate_csr.go.
    """
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder(subject_name=_SUBJECT)
    csr = builder.add_extension(san, critical=True).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)
