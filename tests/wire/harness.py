"""A real server on loopback, a client, and what the server said, for the wire tests."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)
from meshsigner.model import Health
from meshsigner.observe.logs import LineWriter, LogFormat, configure
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.readiness import Readiness
from meshsigner.rpc.certificate_service import METHOD
from meshsigner.rpc.limits import Limits
from meshsigner.rpc.server import RpcServer
from meshsigner.rpc.serving_certificate import ServingCertificate
from meshsigner.rpc.side import TcpPlace, UnixPlace
from tests.fakes.issuance import FakeIssuance
from tests.fakes.serving_tls import Identity, TestRoots
from tests.secret_scan import Secrets

NAME = "istiod.istio-system.svc"
CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
Header = tuple[str, str | bytes]
Beside = Callable[[ServingCertificate], Sequence[TcpPlace | UnixPlace]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """How a refused call ended."""

    code: grpc.StatusCode
    text: str


class Wire:
    """A server under test.

    Attributes:
        issuance: What is behind it.
        server: The server.
        metrics: Its figures.
        health: Whether its one part is ready.
        lines: Every log line, parsed.
        roots: What clients trust.
        files: Where its serving certificate is.
        certificate: What it presents.
    """

    def __init__(
        self, folder: Path, limits: Limits, secrets: Secrets, beside: Beside = lambda _: ()
    ) -> None:
        self._secrets = secrets
        self.roots = TestRoots()
        self.files = (folder / "tls.crt", folder / "tls.key")
        self.present(self.roots.issue(NAME, "127.0.0.1"))
        self.issuance = FakeIssuance()
        self.metrics = Metrics()
        self.lines: list[dict[str, object]] = []
        self.health = Health(name="issuer", ready=True, detail="root test")
        self.readiness = Readiness([lambda: [self.health]])
        renderer = configure(LogFormat.JSON, write=self._write)
        self.certificate = ServingCertificate(*self.files, metrics=self.metrics)
        self.server = RpcServer(
            self.issuance,
            listen="127.0.0.1:0",
            certificate=self.certificate,
            readiness=self.readiness,
            metrics=self.metrics,
            lines=LineWriter(renderer, write=self._write, lost=self.metrics.lines_lost),
            limits=limits,
            beside=beside(self.certificate),
        )

    def _write(self, data: bytes) -> None:
        self._secrets.saw(data.decode())
        self.lines += [json.loads(line) for line in data.splitlines()]

    def present(self, identity: Identity) -> None:
        """Put a serving certificate where the server looks for it."""
        certificate_file, key_file = self.files
        key_file.write_bytes(identity.key)
        certificate_file.write_bytes(identity.certificate)
        self._secrets.register(identity.key.decode())

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @property
    def calls(self) -> list[dict[str, object]]:
        """The lines of calls."""
        return [line for line in self.lines if line["event"] == "create certificate"]

    async def call_lines(self, number: int) -> list[dict[str, object]]:
        """Wait until so many calls have a line."""
        await until(lambda: len(self.calls) >= number)
        return self.calls

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample's value, 0 when there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0

    def saw_everything(self) -> None:
        """Hand the metrics over to the search for secrets."""
        self._secrets.saw(self.metrics.render().decode())

    def channel(self, *options: tuple[str, object]) -> aio.Channel:
        """Return a new connection, shared with no other channel."""
        return aio.secure_channel(
            f"127.0.0.1:{self.port}",
            grpc.ssl_channel_credentials(self.roots.pem),
            options=[("grpc.use_local_subchannel_pool", 1), *options],
        )

    def tls(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Return the settings of a client that speaks one version of TLS."""
        context = ssl.create_default_context(cadata=self.roots.pem.decode())
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        return context

    async def call(
        self,
        channel: aio.Channel,
        request: IstioCertificateRequest | bytes | None = None,
        headers: Sequence[Header] = (("authorization", "Bearer token-of-foo"),),
        timeout_s: float | None = 10,
    ) -> list[str] | Refused:
        """Make one call."""
        for _, value in headers:
            if isinstance(value, str) and value.startswith("Bearer ") and len(value) > 20:
                self._secrets.register(value.removeprefix("Bearer "))
        message = IstioCertificateRequest(csr=CSR) if request is None else request
        data = message if isinstance(message, bytes) else message.SerializeToString()
        method = channel.unary_unary(METHOD, None, IstioCertificateResponse.FromString)
        try:
            answer = await method(data, metadata=aio.Metadata(*headers), timeout=timeout_s)
        except aio.AioRpcError as error:
            self._secrets.saw(error.details() or "")
            return Refused(code=error.code(), text=error.details() or "")
        return list(answer.cert_chain)


@asynccontextmanager
async def serving(
    folder: Path,
    secrets: Secrets,
    limits: Limits | None = None,
    beside: Beside = lambda _: (),
) -> AsyncIterator[Wire]:
    """Run a server for the time of a test."""
    wire = Wire(folder, limits or Limits(), secrets, beside)
    await wire.server.start()
    try:
        yield wire
    finally:
        wire.issuance.gate.set()
        await wire.server.drain(grace_s=0.5)
        wire.saw_everything()


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
