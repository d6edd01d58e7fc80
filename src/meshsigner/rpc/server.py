"""The gRPC server: which methods there are, on which port, under which bounds, and how it ends.

Serves CreateCertificate and the health check; every other method is
UNIMPLEMENTED. What a call means is decided in `certificate_service`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import grpc
from grpc import aio

from meshsigner.errors import NotReady
from meshsigner.observe.logs import LineWriter, get_logger
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event
from meshsigner.observe.readiness import Readiness
from meshsigner.rpc import own_sockets
from meshsigner.rpc.backlog import Backlog
from meshsigner.rpc.calls import ENDING, CallsInFlight
from meshsigner.rpc.certificate_service import CertificateService, Issues
from meshsigner.rpc.door import Door
from meshsigner.rpc.health import SERVICE as HEALTH_SERVICE
from meshsigner.rpc.health import HealthService
from meshsigner.rpc.limits import Limits
from meshsigner.rpc.proof import Proof, Proves, always
from meshsigner.rpc.report import CallReports
from meshsigner.rpc.serving_certificate import ServingCertificate
from meshsigner.rpc.side import SideListener, TcpPlace, UnixPlace, bind_port

SERVICE = "istio.v1.auth.IstioCertificateService"
_LAST_WORDS_S = 2.0  # for answers that say UNAVAILABLE to reach their callers
_BUSY = 16  # fewer calls in flight say that nothing waits: to ask gRPC costs 150 us
_HANDSHAKES_S = 0.5  # for connections that are being set up, on a busy machine
_ON_THE_WAY_S = 0.05  # for the last answers to leave: gRPC writes them after the call has ended


class RpcServer:
    """Istio's certificate service on one port, and at the places beside it.

    Args:
        issuance: Answers calls.
        listen: `address:port`; port 0 takes a free one.
        certificate: What TLS presents; None serves without TLS, and then no
            bearer token is believed (istio-contract statement 40).
        readiness: What the health check tells; ended by `drain`.
        metrics: Counts calls.
        lines: Takes the calls' log lines.
        limits: Bounds of the wire.
        shares_port: Whether other workers of this server listen there too.
        wait_s: Returns how long a newcomer would wait, seconds, behind so many
            calls that have no handler yet: by it new connections are let in.
            None lets all in.
        beside: Further places, for clients with certificates and for a proxy.
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
        shares_port: bool = False,
        wait_s: Callable[[int], float] | None = None,
        beside: Sequence[TcpPlace | UnixPlace] = (),
    ) -> None:
        self._listen = listen
        self._metrics = metrics
        self._wait_s = wait_s
        self._door: Door | None = None
        self._shares_port = shares_port
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
        self._issuance = issuance
        self._beside = beside
        self._sides: list[SideListener] = []
        self._server: aio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            ConfigurationError: The address cannot be had; names who has it.
        """
        server = self._make(always(Proof(secure=self._certificate is not None)))
        credentials = None if self._certificate is None else self._certificate.credentials()
        self.port = bind_port(server, self._listen, credentials)
        self._sides = [SideListener(place, self._make(place.proves)) for place in self._beside]
        await server.start()
        for side in self._sides:
            await side.start()
        self._server = server
        if self._wait_s is not None:
            self._door = self._door_by(self._wait_s)
        if self._certificate is not None:
            self._watch = asyncio.create_task(self._certificate.watch())
        get_logger().info(Event.SERVING, listen=self._listen, port=self.port)

    def _make(self, proves: Proves) -> aio.Server:
        """Make the server of one listener; what its transport proves tells it from the others."""
        service = CertificateService(
            self._issuance, calls=self.calls, reports=self._reports, proves=proves
        )
        health = HealthService(self._readiness, self._limits.handling_s)
        methods = {"CreateCertificate": service.handler()}
        return aio.server(
            handlers=(
                grpc.method_handlers_generic_handler(SERVICE, methods),
                grpc.method_handlers_generic_handler(HEALTH_SERVICE, health.handlers()),
            ),
            options=self._limits.options(shares_port=self._shares_port),
        )

    def _door_by(self, wait_s: Callable[[int], float]) -> Door:
        backlog = Backlog(self.calls.__len__)
        return Door(
            own_sockets.listeners(self.port),
            wait_s=lambda: wait_s(backlog.count() if len(self.calls) >= _BUSY else 0),
            metrics=self._metrics,
            limits=self._limits.door,
        )

    def steer_freely(self) -> None:
        """Let the kernel spread connections over all workers on this port."""
        for place in self._ports():
            own_sockets.steer_freely(place)

    def _ports(self) -> Sequence[int]:
        return [self.port, *(s.where for s in self._sides if isinstance(s.where, int))]

    async def drain(
        self,
        *,
        grace_s: float,
        notice_s: float = 0.0,
        successors: Sequence[int] = (),
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """Stop for good, letting calls in flight end.

        In steps, for gRPC's one step loses calls (`own_sockets`): newcomers go
        elsewhere, or are refused; calls in flight end; idle connections are
        closed, so that their next call opens another.

        Args:
            grace_s: Calls in flight have so long to end; the rest are told UNAVAILABLE.
            notice_s: The health check says NOT_SERVING for so long before the
                port closes, so that a load balancer can look elsewhere first.
            successors: Workers on the same port that get the connections from
                now on, by their order there; then this one is ready to its end.
            left: Called once no new connection can come.
        """
        get_logger().info(Event.DRAINING, calls_in_flight=len(self.calls), grace_s=grace_s)
        if self._door is not None:
            await self._door.aclose()
        if successors:
            await self._hand_over(successors)
        self._readiness.drain()
        await asyncio.sleep(notice_s)
        if self._server is not None:
            own_sockets.stop_listening(self.port)
            for side in self._sides:
                side.stop_listening()
            left()
            await self._stop(self._server, grace_s)
        if self._watch is not None:
            self._watch.cancel()
        self._reports.flush()
        self._lines.flush()
        get_logger().info(Event.STOPPED)

    async def _hand_over(self, successors: Sequence[int]) -> None:
        """Give new connections to others; those that are here already still get their answers."""
        for place in self._ports():
            own_sockets.steer(place, successors)
        await asyncio.sleep(_HANDSHAKES_S)

    async def _stop(self, server: aio.Server, grace_s: float) -> None:
        self.calls.refuse_newcomers()
        await self._end_calls(grace_s)
        await asyncio.sleep(_ON_THE_WAY_S)
        own_sockets.close_connections(self.port)
        sides = [side.stop(_LAST_WORDS_S) for side in self._sides]
        await asyncio.gather(server.stop(_LAST_WORDS_S), *sides)

    async def _end_calls(self, grace_s: float) -> None:
        try:
            async with asyncio.timeout(grace_s):
                await self.calls.drained()
        except TimeoutError:
            self.calls.cut_all(lambda: NotReady(ENDING))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self.calls.drained()
