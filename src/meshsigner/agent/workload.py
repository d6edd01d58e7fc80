"""One workload: its secrets, the life of its certificate, its socket, put together.

Decides what of it runs beside what; each part decides for itself.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import grpc
from grpc import aio

from meshsigner.agent.ca_client import CaClient, CallFailed
from meshsigner.agent.crl import CrlFile
from meshsigner.agent.files import follow
from meshsigner.agent.life import Keeper, Life, Wish
from meshsigner.agent.sds_service import SERVICE, SdsService
from meshsigner.agent.secrets import SecretStore
from meshsigner.agent.settings import AgentSettings, WorkloadSettings
from meshsigner.errors import ConfigurationError
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.unix_socket import OPEN_MODE, PRIVATE_MODE, is_open_to_all, make_private, take

MAX_STREAMS = 100_000  # istio security/pkg/nodeagent/sds/server.go
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    # Envoy's keepalive is its own matter; who pings too often is not cut off.
    ("grpc.http2.max_ping_strikes", 0),
)


class Workload:
    """Serves one workload.

    Args:
        settings: The workload's.
        agent: The agent's.
        socket: Where it is served.
        keeper: Keeps its certificate over a restart.
        metrics: Counts.
        clock: Returns the time, UTC.
        random: Returns a number from 0 to 1.

    Attributes:
        store: Its secrets.
        life: Its certificate.
        service: Its streams.
    """

    def __init__(
        self,
        settings: WorkloadSettings,
        agent: AgentSettings,
        *,
        socket: Path,
        keeper: Keeper | None,
        metrics: AgentMetrics,
        clock: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.socket = socket
        self._clock = clock
        self._root_file = agent.ca.root_file if agent.renew_on_root_change else None
        self._known_root: bytes | None = None
        self.store = SecretStore(
            settings.identity,
            key_provider=agent.key_provider,
            with_crl=settings.crl_file is not None,
        )
        ca = CaClient(
            agent.ca, token_file=settings.token_file, random=random, retrying=self._retrying
        )
        self.life = Life(
            Wish(workload=settings.name, key_type=settings.key_type, lifetime=settings.lifetime),
            store=self.store,
            ca=ca,
            timing=agent.timing,
            keeper=keeper,
            metrics=metrics,
            clock=clock,
            random=random,
        )
        self.service = SdsService(settings.name, self.store, metrics)

    async def start(self, closing: AsyncExitStack) -> None:
        """Listen: before the first certificate is there, for Envoy and istio-agent look early.

        Args:
            closing: Ends it.

        Raises:
            ConfigurationError: The socket cannot be had, or others could reach it.
        """
        self._check_directory()
        server = aio.server(
            handlers=(grpc.method_handlers_generic_handler(SERVICE, self.service.handlers()),),
            options=_OPTIONS,
        )
        private = self.settings.socket is None
        _, taken = take(
            self.socket, PRIVATE_MODE if private else OPEN_MODE, lambda path: _bind(server, path)
        )
        closing.callback(taken.release)
        closing.push_async_callback(server.stop, None)
        await server.start()

    def loops(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Return what must run as long as the agent does."""
        yield self.life.run
        if (crl_file := self.settings.crl_file) is not None:
            crls = CrlFile(self.settings.name, self.store, self._clock)
            yield lambda: follow(crl_file, crls.take)
        if (root_file := self._root_file) is not None:
            yield lambda: follow(root_file, self._see_root)

    def _check_directory(self) -> None:
        if self.settings.group is not None:
            make_private(self.socket.parent, self.settings.group)
        elif self.settings.socket is not None and is_open_to_all(self.socket.parent):
            # As in a pod, where the volume itself is for the pod alone.
            get_logger().warning(Event.SOCKET_OPEN_TO_ALL, directory=str(self.socket.parent))

    def _retrying(self, failed: CallFailed, wait_s: float) -> None:
        get_logger().warning(
            Event.CERTIFICATE_RETRIED,
            workload=self.settings.name,
            cause=str(failed),
            again_after_s=round(wait_s, 2),
        )

    def _see_root(self, pem: bytes | None) -> None:
        """Renew when the roots of the CA connection are others than at the last look."""
        known, self._known_root = self._known_root, pem or self._known_root
        if known is not None and pem and pem != known:
            get_logger().info(Event.CA_ROOTS_CHANGED, workload=self.settings.name)
            self.life.renew()


def _bind(server: aio.Server, path: Path) -> None:
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {path}: it cannot be bound") from error
