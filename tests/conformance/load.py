"""A bounded burst of real certificate requests from this process, over several connections.

Uses grpc.aio directly and no code of the server's, beyond the messages of Istio's proto.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)
from tests.conformance.server import Installation

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
DAY_S = 86_400
CALL_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 20.0
# One request in ten with the agent's default key; making more would only cost time.
RSA_SHARE = 10
# The serving certificate has this name, whatever port is in front.
AUTHORITY = (("grpc.ssl_target_name_override", "istiod.istio-system.svc"),)
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One workload's request.

    Args:
        csr_pem: Its certificate request.
        token: Its bearer token.
    """

    csr_pem: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request: a chain or a status.

    Args:
        chain: PEM elements, leaf first, or nothing.
        code: Status of the call.
        details: Its text.
    """

    chain: tuple[str, ...] = ()
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""

    @property
    def leaf(self) -> x509.Certificate:
        """The issued certificate."""
        return x509.load_pem_x509_certificate(self.chain[0].encode())


def make_asks(spiffe_id: str, token: str, count: int) -> list[Ask]:
    """Make requests with a P-256 key each, one in ten with RSA-2048 as istio-agent's are.

    Args:
        spiffe_id: Identity that all of them ask for.
        token: Token of that identity.
        count: How many.
    """
    rsa_key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(san, critical=True)
    asks = []
    for number in range(count):
        key = rsa_key if number % RSA_SHARE == 0 else ec.generate_private_key(ec.SECP256R1())
        csr = builder.sign(key, hashes.SHA256())
        asks.append(Ask(csr_pem=csr.public_bytes(Encoding.PEM).decode(), token=token))
    return asks


@contextlib.asynccontextmanager
async def connections(
    listen: str, installation: Installation, count: int = 1
) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Have so many connections of their own, all past their handshake.

    Args:
        listen: host:port of the server.
        installation: Where its roots are.
        count: How many connections.

    Raises:
        TimeoutError: They were not all open in time.
    """
    credentials = grpc.ssl_channel_credentials(installation.root.read_bytes())
    channels = [
        grpc.aio.secure_channel(listen, credentials, options=(*AUTHORITY, *OWN_CONNECTION))
        for _ in range(count)
    ]
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
        yield channels
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


async def _call(channel: grpc.aio.Channel, ask: Ask) -> Answer:
    """Send one request and turn what comes into an answer."""
    create = channel.unary_unary(
        METHOD,
        request_serializer=IstioCertificateRequest.SerializeToString,
        response_deserializer=IstioCertificateResponse.FromString,
    )
    metadata = (("authorization", f"Bearer {ask.token}"), ("clusterid", "Kubernetes"))
    request = IstioCertificateRequest(csr=ask.csr_pem, validity_duration=DAY_S)
    try:
        response = await create(request, metadata=metadata, timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as problem:
        return Answer(code=problem.code(), details=problem.details() or "")
    return Answer(chain=tuple(response.cert_chain))


async def burst(
    channels: Sequence[grpc.aio.Channel],
    asks: Sequence[Ask],
    on_answer: Callable[[Answer], None] = lambda _answer: None,
) -> list[Answer]:
    """Send all requests at once and return every answer, in the order of the requests.

    Args:
        channels: Open connections, over which the requests are spread.
        asks: The requests.
        on_answer: Called with each answer as it arrives.
    """

    async def one(number: int, ask: Ask) -> Answer:
        answer = await _call(channels[number % len(channels)], ask)
        on_answer(answer)
        return answer

    return await asyncio.gather(*(one(number, ask) for number, ask in enumerate(asks)))
