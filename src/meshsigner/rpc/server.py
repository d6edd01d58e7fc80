"""The gRPC server: which methods there are, on which port, under which bounds, and how it ends.

Serves CreateCertificate and the health check; every other method is
UNIMPLEMENTED. What a call means is decided in `certificate_service`.
"""

import asyncio

import grpc
from grpc import aio

from meshsigner.errors import ConfigurationError, NotReady
from meshsigner.observe.logs import LineWriter, get_logger
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event
from meshsigner.observe.readiness import Readiness
from meshsigner.rpc.calls import CallsInFlight
from meshsigner.rpc.certificate_service import CertificateService, Issues
from meshsigner.rpc.health import SERVICE as HEALTH_SERVICE
from meshsigner.rpc.health import HealthService
from meshsigner.rpc.limits import Limits
from meshsigner.rpc.port_holder import port_holder
from meshsigner.rpc.report import CallReports
from meshsigner.rpc.serving_certificate import ServingCertificate

SERVICE = "istio.v1.auth.IstioCertificateService"
_LAST_WORDS_S = 2.0  # for answers that say UNAVAILABLE to reach their callers


class RpcServer:
    """Istio's certificate service on one port.

    Args:
        issuance: Answers calls.
        listen: `address:port`; port 0 takes a free one.
        certificate: What TLS presents; None serves without TLS, and then no
            bearer token is believed (istio-contract statement 40).
        readiness: What the health check tells; ended by `drain`.
        metrics: Counts calls.
        lines: Takes the calls' log lines.
        limits: Bounds of the wire.
    """

    def __init__(
        self,
        issuance: Issues,
        *,
        listen: str,
        certificate: ServingCertificate | None,
        readiness: Readiness,
        metrics: Metrics,
        lines: LineWriter,
        limits: Limits | None = None,
    ) -> None:
        self._listen = listen
        self._certificate = certificate
        self._readiness = readiness
        self._limits = limits or Limits()
        self.calls = CallsInFlight(
            limit=self._limits.max_calls,
            per_connection=self._limits.max_calls_per_connection,
            shed=metrics.shed,
            handling_time_s=self._limits.handling_s,
        )
        metrics.calls_in_flight(self.calls.__len__)
        self._reports = CallReports(metrics, lines)
        self._lines = lines
        self._service = CertificateService(
            issuance,
            calls=self.calls,
            reports=self._reports,
            secure=certificate is not None,
        )
        self._server: aio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigurationError: The address cannot be had; names who has it.
        """
        server = aio.server(
            handlers=(
                grpc.method_handlers_generic_handler(
                    SERVICE,
                    {"CreateCertificate": self._service.handler()},
                ),
                grpc.method_handlers_generic_handler(
                    HEALTH_SERVICE,
                    HealthService(self._readiness, self._limits.handling_s).handlers(),
                ),
            ),
            options=self._limits.options(),
        )
        self.port = self._bind(server)
        await server.start()
        self._server = server
        if self._certificate is not None:
            self._watch = asyncio.create_task(self._certificate.watch())
        get_logger().info(Event.SERVING, listen=self._listen, port=self.port)

    def _bind(self, server: aio.Server) -> int:
        try:
            if self._certificate is None:
                return server.add_insecure_port(self._listen)
            return server.add_secure_port(self._listen, self._certificate.credentials())
        except RuntimeError as error:
            port = self._listen.rpartition(":")[2]
            holder = port_holder(int(port)) if port.isdecimal() else None
            msg = (
                f"cannot listen on {self._listen}: "
                f"{f'{holder} listens there' if holder else 'the port is taken or not ours'}; "
                "stop it, or set another port"
            )
            raise ConfigurationError(msg) from error

    async def drain(self, *, grace_s: float, notice_s: float = 0.0) -> None:
        """Stop for good, letting calls in flight end.

        Args:
            grace_s: Calls in flight have so long to end; the rest are told UNAVAILABLE.
            notice_s: The health check says NOT_SERVING for so long before the
                port closes, so that a load balancer can look elsewhere first.
        """
        self._readiness.drain()
        get_logger().info(Event.DRAINING, calls_in_flight=len(self.calls), grace_s=grace_s)
        await asyncio.sleep(notice_s)
        if self._server is not None:
            stopping = asyncio.create_task(self._server.stop(grace_s + _LAST_WORDS_S))
            await self._end_calls(grace_s)
            await stopping
        if self._watch is not None:
            self._watch.cancel()
        self._reports.flush()
        self._lines.flush()
        get_logger().info(Event.STOPPED)

    async def _end_calls(self, grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                await self.calls.drained()
        except TimeoutError:
            self.calls.cut_all(lambda: NotReady("the server is ending"))
