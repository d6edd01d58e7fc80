"""One server: its parts put together, started in order, ended in reverse.

Decides the order, and what a reload changes. Settings become parts in `parts`;
when to start, reload and end is `process`'s matter.

Start: CA, authenticators, inventory, serving certificate; all that is wrong
with these is told at once. Then the pipeline, the wire, and the admin port
unless a supervisor has it.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from cryptography import x509

from meshsigner.admin.server import AdminServer, OneProcess
from meshsigner.app.callers import authenticator_of
from meshsigner.app.certificates import MeshRoots, certificate_authenticator_of, places_of
from meshsigner.app.collector import leave_alone_what_stays
from meshsigner.app.controllers import ClusterKeeping
from meshsigner.app.nodes import nodes_of
from meshsigner.app.parts import (
    issuance_limits_of,
    policy_of,
    wire_limits_of,
)
from meshsigner.app.place import Place
from meshsigner.app.problems import Problems
from meshsigner.app.signers import Backends
from meshsigner.app.stores import caretaker_of, inventory_of
from meshsigner.authn.clusters import ClusterAuthenticator
from meshsigner.authn.denied import DenyList
from meshsigner.authn.node import ClusterNodes
from meshsigner.background import Background
from meshsigner.config import Config
from meshsigner.config.sections import TlsFiles
from meshsigner.errors import ConfigurationError, RecordFailed
from meshsigner.issuance import Issuance
from meshsigner.model import Health
from meshsigner.observe.logs import LineWriter, LogFormat, Renderer, configure, get_logger
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event
from meshsigner.observe.readiness import Readiness
from meshsigner.ports import Authenticator, Inventory
from meshsigner.recorder import Recorder
from meshsigner.rpc.server import RpcServer
from meshsigner.rpc.serving_certificate import ServingCertificate
from meshsigner.rpc.side import TcpPlace, UnixPlace
from meshsigner.signing.serving import ServingIssuer


def utc_now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


class Server:
    """A server in this process's event loop.

    Args:
        config: Its settings.
        place: Its place among a supervisor's workers; None for a server that is
            one process.

    Attributes:
        metrics: Its figures.
        address: Where it serves.
        admin_address: Where probes ask; empty for a worker.
    """

    def __init__(self, config: Config, place: Place | None = None) -> None:
        self._config = config
        self._place = place
        self._policy = policy_of(config, place.policy_generation if place else 1)
        self.metrics = Metrics()
        self._lines = LineWriter(self._configure_logs(config), lost=self.metrics.lines_lost)
        self._closing = AsyncExitStack()
        self._successors: Sequence[int] = ()
        self._left: Callable[[], None] = lambda: None
        self._turn: Callable[[], Awaitable[None]] | None = None
        self._cluster = ClusterKeeping(self.metrics.registry)
        self.address = ""
        self.admin_address = ""

    async def start(self, turn: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start everything.

        Args:
            turn: Awaited when all but the port is ready, so that several servers
                join one port one after the other.

        Raises:
            ConfigurationError: It cannot; holds every problem that could be
                found. Nothing is left running.
        """
        self._turn = turn
        async with AsyncExitStack() as closing:
            await self._start(closing)
            self._closing = closing.pop_all()
        leave_alone_what_stays()
        self._tell_ready()

    async def stop(
        self, successors: Sequence[int] = (), left: Callable[[], None] = lambda: None
    ) -> None:
        """Drain, then end everything, in the reverse order of the start.

        Args:
            successors: Workers that get the port's connections, by their order there.
            left: Called once no new connection can come.
        """
        self._successors, self._left = successors, left
        await self._closing.aclose()

    def steer_freely(self) -> None:
        """Let the kernel spread connections over all workers: nobody is ending any more."""
        self._rpc.steer_freely()

    def health(self) -> Sequence[Health]:
        """Return the health of every part."""
        return self._readiness.report()

    def roots_pem(self) -> bytes:
        """Return the roots of all backends, that in use first."""
        return self._backends.roots_pem()

    async def reload(self, config: Config | None, generation: int | None = None) -> None:
        """Take policy and logging level anew, and look at all files at once.

        Args:
            config: New settings; None changes nothing but files.
            generation: Number of these settings; one more than before by default.
        """
        if config is not None and self._may_take(config):
            self._policy = policy_of(config, generation or self._policy.generation + 1)
            get_logger().info(
                Event.RELOADED,
                policy_generation=self._policy.generation,
                need_restart=_need_restart(self._config, config),
            )
            self._lines.renderer = self._configure_logs(config)
        await self._backends.look()
        self._serving.reload()

    def _may_take(self, config: Config) -> bool:
        """Refuse rules that name a backend which a restart would have to start first."""
        running = {signer.name for signer in self._backends.signers}
        named = {name for rule in config.policy.signers for name in rule.backends}
        if named <= running:
            return True
        problem = (
            f"policy.signers names {', '.join(sorted(named - running))}, which does not run yet; "
            "expected backends of the last start; restart the server to take new ones"
        )
        get_logger().error(Event.RELOAD_REFUSED, problems=(problem,))
        return False

    def _tell_ready(self) -> None:
        parts = self._readiness.report()
        missing = [f"{part.name}: {part.detail}" for part in parts if not part.ready]
        where = {"listen": self.address, "admin": self.admin_address}
        if missing:
            get_logger().warning(Event.NOT_READY, **where, missing=missing)
        elif self._place is None:  # else the supervisor says it, of all
            get_logger().info(Event.READY, **where)

    async def _start(self, closing: AsyncExitStack) -> None:
        config = self._config
        problems = Problems()
        backends = problems.attempt(lambda: self._backends_of(config))
        followed: dict[str, ClusterNodes] = {}
        authenticator = problems.attempt(lambda: authenticator_of(config, followed))
        nodes = None
        if authenticator is not None:
            nodes = problems.attempt(partial(nodes_of, config, authenticator, followed))
        inventory = problems.attempt(lambda: inventory_of(config))
        recorder = await self._start_recorder(inventory, closing, problems)
        await _start_authenticator(authenticator, closing, problems)
        if backends is not None:
            await backends.start(closing, problems)
        if backends is not None:
            problems.attempt(lambda: self._start_controllers(backends, closing))
        serving = problems.attempt(lambda: self._serving_of(config, backends, closing))
        problems.settle()
        if backends is None or authenticator is None or serving is None or recorder is None:
            raise TypeError("a part is missing without a problem")
        self._backends, self._serving = backends, serving
        self._roots = MeshRoots(backends.signers, utc_now)
        if self._place is None:
            closing.push_async_callback(Background(caretaker_of(config).run).stop)
        issuance = Issuance(
            authenticator=await self._callers(authenticator, closing),
            signers=backends.signers,
            recorder=recorder,
            policy=lambda: self._policy,
            metrics=self.metrics,
            clock=utc_now,
            nodes=nodes,
            limits=issuance_limits_of(config.limits),
        )
        closing.push_async_callback(issuance.drain, 0.0)
        await self._recover(issuance, closing)
        self._readiness = Readiness([issuance.health, self._cluster.health])
        await self._listen(issuance, closing)

    async def _callers(
        self, tokens: ClusterAuthenticator, closing: AsyncExitStack
    ) -> Authenticator:
        """Return what proves callers: by tokens, and by certificates where these are shown.

        Raises:
            ConfigurationError: There is no list of denied certificates where one is named.
        """
        section = self._config.client_certificates
        if section is None:
            return tokens
        denied = DenyList(section.denied)
        await denied.start()
        closing.push_async_callback(denied.aclose)
        domains = self._policy.trust_domains
        return certificate_authenticator_of(
            section, roots=self._roots, trust_domains=domains, denied=denied, tokens=tokens
        )

    def _places(self) -> Sequence[TcpPlace | UnixPlace]:
        section = self._config.client_certificates
        if section is None:
            return ()
        return places_of(section, roots=self._roots, certificate=self._serving, place=self._place)

    async def _listen(self, issuance: Issuance, closing: AsyncExitStack) -> None:
        """Open the ports, admin first, so that a probe sees the rest of the start."""
        config = self._config
        problems = Problems()
        if self._place is None:
            await self._start_admin(closing, problems)
        self._rpc = RpcServer(
            issuance,
            listen=str(config.listen.address),
            certificate=self._serving,
            readiness=self._readiness,
            metrics=self.metrics,
            lines=self._lines,
            limits=wire_limits_of(config.limits),
            shares_port=self._place is not None,
            beside=self._places(),
            wait_s=issuance.newcomers_wait_s,
        )
        if self._turn is not None:
            await self._turn()
        try:
            await self._rpc.start()
        except ConfigurationError as error:
            problems.add(*error.problems)
        if problems:
            await self._rpc.drain(grace_s=0.0)
        problems.settle()
        closing.push_async_callback(self._drain)
        self.address = f"{config.listen.address.host}:{self._rpc.port}"

    async def _start_admin(self, closing: AsyncExitStack, problems: Problems) -> None:
        listen = self._config.admin.address
        admin = AdminServer(listen=str(listen), shown=OneProcess(self._readiness, self.metrics))
        try:
            await admin.start()
        except ConfigurationError as error:
            problems.add(*error.problems)
        closing.push_async_callback(admin.stop)
        self.admin_address = f"{listen.host}:{admin.port}"

    async def _drain(self) -> None:
        limits = self._config.limits
        await self._rpc.drain(
            grace_s=limits.drain.total_seconds(),
            notice_s=0.0 if self._successors else limits.drain_notice.total_seconds(),
            successors=self._successors,
            left=self._left,
        )

    async def _start_recorder(
        self, inventory: Inventory | None, closing: AsyncExitStack, problems: Problems
    ) -> Recorder | None:
        if inventory is None:
            return None
        recorder = Recorder(inventory, self.metrics)
        closing.push_async_callback(recorder.close)
        try:
            await recorder.start()
        except RecordFailed as error:
            problems.add(str(error))
        return recorder

    async def _recover(self, issuance: Issuance, closing: AsyncExitStack) -> None:
        """Find what an earlier process asked for and never learnt the outcome of.

        Raises:
            ConfigurationError: The inventory cannot be read.
        """
        try:
            wanted = await issuance.recovery.start()
        except RecordFailed as error:
            raise ConfigurationError(str(error)) from error
        if wanted:
            closing.push_async_callback(Background(issuance.recovery.run).stop)

    def _backends_of(self, config: Config) -> Backends:
        return Backends(config, clock=utc_now, metrics=self.metrics, announced=self._announced())

    def _announced(self) -> Sequence[x509.Certificate]:
        pem = self._place.roots_pem if self._place else b""
        return x509.load_pem_x509_certificates(pem) if pem else ()

    def _configure_logs(self, config: Config) -> Renderer:
        level = logging.getLevelNamesMapping()[config.logging.level.upper()]
        always = {"worker": self._place.number} if self._place else {}
        return configure(LogFormat(config.logging.format), level, always=always)

    def _start_controllers(self, backends: Backends, closing: AsyncExitStack) -> None:
        roots = MeshRoots(backends.signers, utc_now)
        self._cluster.start(
            self._config,
            roots=lambda: roots.issuer(utc_now()).trust_bundle,
            issuer=backends.ca_at_hand(),
            clock=utc_now,
            closing=closing,
        )

    def _serving_of(
        self,
        config: Config,
        backends: Backends | None,
        closing: AsyncExitStack,
    ) -> ServingCertificate | None:
        """Return what TLS presents; None when there is no CA that could issue it."""
        tls = config.listen.tls
        if isinstance(tls, TlsFiles):
            return ServingCertificate(tls.certificate, tls.key, metrics=self.metrics)
        if backends is None:
            return None
        own = ServingIssuer(
            tls.directory,
            backends.own_ca(),
            names=(*tls.dns_names, *tls.ip_addresses),
            clock=utc_now,
            lifetime=tls.lifetime,
            may_show=self._cluster.may_show,
        )
        own.ensure()
        closing.push_async_callback(Background(own.watch).stop)
        return ServingCertificate(own.certificate_file, own.key_file, metrics=self.metrics)


async def _start_authenticator(
    authenticator: ClusterAuthenticator | None, closing: AsyncExitStack, problems: Problems
) -> None:
    if authenticator is None:
        return
    closing.push_async_callback(authenticator.aclose)
    try:
        await authenticator.start()
    except ConfigurationError as error:
        problems.add(*error.problems)


def _need_restart(old: Config, new: Config) -> list[str]:
    """List the sections that differ and that a reload does not take."""
    return [
        name
        for name in type(old).model_fields
        if name not in {"policy", "logging"} and getattr(old, name) != getattr(new, name)
    ]
