"""Where the fuzzers start: for each target inputs that go far, and some that are refused late."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence

from tests.fakes.client_certificates import encode, forwarded
from tests.fakes.tokens import claims, ec_key, jwk, jwks, make_token, rsa_key
from tests.fuzz.targets import CLIENT
from tests.vectors.make_csrs import all_cases
from tests.vectors.pkcs10 import IDENTITY
from tests.vectors.recorded_calls import FOLDER, recorded_calls, recorded_tokens
from tests.vectors.recorded_orders import CHAIN

_VERSION_3 = b"\xa0\x03\x02\x01\x02"
_SMALL_BYTES = 20_000


def _pem_to_der(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.splitlines()[1:-1]))
    except binascii.Error:
        return text


def _reviews() -> list[bytes]:
    recorded = json.loads((FOLDER / "token_reviews.json").read_bytes()).values()
    statuses = [entry["body"].get("status") for entry in recorded]
    return [json.dumps(status).encode() for status in statuses if isinstance(status, dict)]


def seeds() -> Mapping[str, Sequence[bytes]]:
    """Return the seeds of every target by its name."""
    csrs = [case.csr for case in all_cases() if len(case.csr) < _SMALL_BYTES]
    tokens = [make_token().encode(), *(text.encode() for text in recorded_tokens().values())]
    return {
        "csr_text": csrs,
        "csr_der": [_pem_to_der(text) for text in csrs],
        "token_text": tokens,
        "token_header": [b'{"alg":"RS256","kid":"k1"}', b'{"alg":"ES256","kid":"k","typ":"JWT"}'],
        "token_claims": [json.dumps(claims()).encode()],
        "key_set": [jwks(jwk(rsa_key()), jwk(ec_key(), "k2")), (FOLDER / "jwks.json").read_bytes()],
        "review": _reviews(),
        "message": [call.request for call in recorded_calls()],
        "identity": [IDENTITY.encode()],
        "forwarded_header": [forwarded(CLIENT).encode(), f'Cert="{encode(CLIENT.pem)}"'.encode()],
        "client_chain": [CLIENT.chain_pem, CLIENT.pem],
        "answer": [CHAIN.leaf_der, CHAIN.leaf_der.replace(_VERSION_3, b"\xa0\x03\x02\x01\x24", 1)],
    }
