"""A CA for the agent's tests: issues what is asked, or misbehaves in one named way.

`FakeCa` implements the agent's port; `serve` puts it behind Istio's wire on
loopback. What it should do is said by its attributes: its roots, its issuer,
and `script`, what it answers to the next calls instead of a certificate.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)
from meshsigner.agent.ca_client import METHOD, CallFailed
from meshsigner.agent.secrets import Svid
from tests.fakes.authority import Ca, Shape, make_ca
from tests.fakes.serving_tls import Identity

BACKDATE = timedelta(minutes=2)
Change = Callable[[tuple[str, ...]], tuple[str, ...]]


def fresh_ca(name: str, issuer: Ca | None = None) -> Ca:
    """Make a CA that is valid now."""
    now = datetime.now(UTC)
    shape = Shape(not_before=now - timedelta(days=1), not_after=now + timedelta(days=365))
    return make_ca(name, issuer=issuer, shape=shape)


class FakeCa:
    """Issues for whoever asks, without asking who that is.

    Attributes:
        roots: What it announces.
        issuer: What signs.
        intermediates: What it sends between leaf and roots.
        lifetime: What every certificate gets; None what was asked for.
        backdate: How far their start lies in the past.
        script: Taken one a call while there are any: an error is raised, a
            function changes the answer, None issues.
        csrs: Every CSR that came.
        asked_s: Every lifetime that was asked for, seconds.
        gate: Calls wait for it; open at first.
    """

    def __init__(self) -> None:
        root = fresh_ca("root")
        self.roots = [root]
        self.issuer = fresh_ca("issuing", root)
        self.intermediates = [self.issuer]
        self.lifetime: timedelta | None = None
        self.backdate = BACKDATE
        self.script: list[CallFailed | Change | None] = []
        self.csrs: list[x509.CertificateSigningRequest] = []
        self.asked_s: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def create_certificate(self, csr_pem: str, lifetime_s: int) -> tuple[str, ...]:
        """Answer as told."""
        self.csrs.append(x509.load_pem_x509_csr(csr_pem.encode()))
        self.asked_s.append(lifetime_s)
        await self.gate.wait()
        step = self.script.pop(0) if self.script else None
        if isinstance(step, CallFailed):
            raise step
        answer = self.issue(self.csrs[-1], self.lifetime or timedelta(seconds=lifetime_s))
        return answer if step is None else step(answer)

    def issue(self, csr: x509.CertificateSigningRequest, lifetime: timedelta) -> tuple[str, ...]:
        """Sign what a CSR asks for."""
        now = datetime.now(UTC).replace(microsecond=0)
        san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        public_key = csr.public_key()
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - self.backdate)
            .not_valid_after(now + lifetime)
            .add_extension(san.value, critical=True)
            .sign(self.issuer.key, hashes.SHA256())
        )
        roots = b"".join(root.pem for root in self.roots)
        elements = [leaf.public_bytes(Encoding.PEM), *(ca.pem for ca in self.intermediates), roots]
        return tuple(element.decode() for element in elements)


class CaServer:
    """A `FakeCa` behind the wire.

    Attributes:
        ca: The CA.
        calls: Metadata of every call, in order.
        messages: The requests themselves.
        peers: Address of every caller: a new one is a new connection.
        statuses: Taken one a call while there are any: the call ends with it.
        port: Where it listens.
    """

    def __init__(self, ca: FakeCa) -> None:
        self.ca = ca
        self.calls: list[dict[str, str]] = []
        self.messages: list[IstioCertificateRequest] = []
        self.statuses: list[tuple[grpc.StatusCode, str]] = []
        self.peers: list[str] = []
        self.port = 0
        self._server: aio.Server | None = None

    async def start(self, identity: Identity, port: int = 0) -> None:
        """Listen on loopback, with TLS."""
        handler = grpc.unary_unary_rpc_method_handler(
            self._create,
            request_deserializer=IstioCertificateRequest.FromString,
            response_serializer=IstioCertificateResponse.SerializeToString,
        )
        service, _, method = METHOD.lstrip("/").rpartition("/")
        handlers = (grpc.method_handlers_generic_handler(service, {method: handler}),)
        self._server = aio.server(handlers=handlers, options=[("grpc.so_reuseport", 0)])
        credentials = grpc.ssl_server_credentials([(identity.key, identity.certificate)])
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        """Be away."""
        if self._server is not None:
            await self._server.stop(None)

    async def _create(
        self,
        message: IstioCertificateRequest,
        context: "aio.ServicerContext[IstioCertificateRequest, IstioCertificateResponse]",
    ) -> IstioCertificateResponse:
        self.messages.append(message)
        self.peers.append(context.peer())
        self.calls.append(
            {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        )
        if self.statuses:
            await context.abort(*self.statuses.pop(0))
        chain = await self.ca.create_certificate(message.csr, message.validity_duration)
        return IstioCertificateResponse(cert_chain=chain)


@asynccontextmanager
async def serve(ca: FakeCa, identity: Identity) -> AsyncIterator[CaServer]:
    """Run a CA's server for the time of a test."""
    server = CaServer(ca)
    await server.start(identity)
    try:
        yield server
    finally:
        await server.stop()


def make_svid(
    key: str = "key", leaf: str = "leaf", roots: str = "roots", *, left: timedelta | None = None
) -> Svid:
    """Make what the store serves, of plain words instead of PEM."""
    now = datetime.now(UTC)
    return Svid(
        key_pem=key.encode(),
        chain_pem=leaf.encode(),
        roots_pem=roots.encode(),
        serial="abc",
        not_before=now,
        not_after=now + (timedelta(hours=1) if left is None else left),
        taken_at=now,
    )


def p256() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())
