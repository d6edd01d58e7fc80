"""What the fuzzers call: every parser that strangers reach, with any bytes.

A target has two outcomes: the input is read, or a documented error says no.
Whatever else it raises is a bug. It is run by Hypothesis in the usual tests and
by atheris, guided by coverage, in `make fuzz`.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from cryptography.hazmat.primitives import hashes

from meshsigner.authn.client_chain import check_chain
from meshsigner.authn.key_sets import InvalidKeySet, parse_key_set
from meshsigner.authn.reviews import read_review
from meshsigner.authn.strict_json import InvalidJson, parse_object
from meshsigner.authn.tokens import TokenRules, check_token, parse_token
from meshsigner.authn.xfcc import parse_forwarded
from meshsigner.csr import parse_csr
from meshsigner.errors import BackendUnavailable, InvalidCsr, Unauthenticated, WrongCertificate
from meshsigner.rpc.proof import Proof
from meshsigner.rpc.request import asked_lifetime, credentials, csr_pem, parse_message
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId, WorkloadId
from meshsigner.verify import check_issued
from tests.fakes.authority import NOW
from tests.fakes.client_certificates import Mesh
from tests.fakes.tokens import AUDIENCE, ISSUER, NOW_S, encode
from tests.vectors.pkcs10 import pem
from tests.vectors.recorded_orders import CHAIN, ORDER, chain_of

Target = Callable[[bytes], None]
_RULES = TokenRules(audiences=(AUDIENCE,), issuer=ISSUER)
_HEADER = encode(b'{"alg":"RS256","kid":"k1"}')
MESH = Mesh()
CLIENT = MESH.leaf()
CLIENT_SHA256 = CLIENT.certificate.fingerprint(hashes.SHA256()).hex()


def csr_text(data: bytes) -> None:
    """Read bytes as a CSR's PEM."""
    with suppress(InvalidCsr):
        parse_csr(data)


def csr_der(data: bytes) -> None:
    """Read bytes as the DER inside a CSR's PEM."""
    with suppress(InvalidCsr):
        parse_csr(pem(data))


def token_text(data: bytes) -> None:
    """Read bytes as a bearer token; gRPC hands over text of any kind."""
    _token(data.decode(errors="surrogateescape"))


def token_header(data: bytes) -> None:
    """Read bytes as a token's header."""
    _token(f"{encode(data)}.{encode(b'{}')}.")


def token_claims(data: bytes) -> None:
    """Read bytes as a token's claims."""
    _token(f"{_HEADER}.{encode(data)}.{encode(b'x')}")


def _token(text: str) -> None:
    with suppress(Unauthenticated):
        check_token(parse_token(text), _RULES, NOW_S)


def key_set(data: bytes) -> None:
    """Read bytes as a JWK set."""
    with suppress(InvalidKeySet):
        parse_key_set(data)


def review(data: bytes) -> None:
    """Read bytes as the status of a token review."""
    with suppress(InvalidJson, Unauthenticated, BackendUnavailable):
        read_review(parse_object(data), (AUDIENCE,))


def message(data: bytes) -> None:
    """Read bytes as the request message, and everything that is taken from it."""
    with suppress(InvalidCsr):
        request = parse_message(data)
        headers = [("authorization", request.csr), ("clusterid", request.csr)]
        credentials(request, headers, peer="ipv4:127.0.0.1:1", proof=Proof(secure=True))
        asked_lifetime(request.validity_duration)
        parse_csr(csr_pem(request))


def identity(data: bytes) -> None:
    """Read bytes as a SPIFFE ID."""
    text = data.decode(errors="surrogateescape")
    for kind in (SpiffeId, WorkloadId):
        with suppress(InvalidSpiffeId):
            kind.parse(text)


def forwarded_header(data: bytes) -> None:
    """Read bytes as what a proxy says of its client; gRPC hands over text of any kind."""
    with suppress(Unauthenticated):
        parse_forwarded([data.decode(errors="surrogateescape")])


def client_chain(data: bytes) -> None:
    """Check bytes as the certificates that a client has shown.

    Raises:
        AssertionError: Another leaf than the one that was issued passed.
    """
    with suppress(Unauthenticated):
        if check_chain(data, MESH.issuer, NOW).sha256 != CLIENT_SHA256:
            msg = "a changed certificate passed its check"
            raise AssertionError(msg)


def answer(data: bytes) -> None:
    """Check bytes as the certificate that a signer returned.

    Raises:
        AssertionError: Another certificate than the one that was ordered passed.
    """
    with suppress(WrongCertificate):
        check_issued(chain_of(data), ORDER)
        if data != CHAIN.leaf_der:
            msg = "a changed certificate passed its check"
            raise AssertionError(msg)


TARGETS: Mapping[str, Target] = {
    target.__name__: target
    for target in (
        csr_text,
        csr_der,
        token_text,
        token_header,
        token_claims,
        key_set,
        review,
        message,
        identity,
        forwarded_header,
        client_chain,
        answer,
    )
}
