"""An agent: its workloads and sockets, started in order and ended in reverse.

The sockets are there before the first certificate, for an Envoy that finds one
waits, and istio-agent looks for it once. A bug in a background loop ends the
agent, which whoever started it starts again: its Envoys keep what they have.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from meshsigner.agent.output import OutputFiles, Swap
from meshsigner.agent.settings import AgentSettings, WorkloadSettings
from meshsigner.agent.shared_socket import Owner, SharedSocket
from meshsigner.agent.status import StatusSocket, describe
from meshsigner.agent.workload import Workload
from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.unix_socket import make_own


def utc_now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


class Agent:
    """An agent in this process's event loop.

    Args:
        settings: Its settings.
        metrics: Counts.
        random: Returns a number from 0 to 1, for jitter.
        swap: Writes a set of files at once.
        clock: Returns the time, UTC.
    """

    def __init__(
        self,
        settings: AgentSettings,
        *,
        metrics: AgentMetrics,
        random: Callable[[], float],
        swap: Swap,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._random = random
        self._swap = swap
        self._clock = clock
        self.workloads = tuple(self._workload(workload) for workload in settings.workloads)

    def health(self) -> Sequence[Health]:
        """Say for each workload whether its certificate is served."""
        return [workload.life.health() for workload in self.workloads]

    def renew(self) -> None:
        """Renew every certificate soon, whatever its age."""
        for workload in self.workloads:
            workload.life.renew()

    async def run(self, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        """Serve until cancelled.

        Args:
            ready: Called once all sockets are there; certificates may not be.

        Raises:
            ConfigurationError: It cannot start; holds every problem.
        """
        async with AsyncExitStack() as closing:
            await self._listen(closing)
            sockets = [str(workload.socket) for workload in self.workloads]
            get_logger().info(Event.AGENT_SERVING, sockets=sockets)
            if ready is not None:
                await ready()
            async with asyncio.TaskGroup() as loops:
                for workload in self.workloads:
                    for loop in workload.loops():
                        loops.create_task(_as_coroutine(loop))

    async def _listen(self, closing: AsyncExitStack) -> None:
        closing.callback(get_logger().info, Event.AGENT_STOPPED)
        problems: list[str] = []
        starts: list[Callable[[], Awaitable[None]]] = [
            self._make_directory,
            *(lambda w=workload: w.start(closing) for workload in self.workloads),
            lambda: self._share(closing),
            lambda: self._show_status(closing),
        ]
        for start in starts:
            try:
                await start()
            except ConfigurationError as error:
                problems += error.problems
        if problems:
            raise ConfigurationError(*problems)

    def _workload(self, settings: WorkloadSettings) -> Workload:
        keeper = None
        if settings.output_directory is not None:
            keeper = OutputFiles(settings.output_directory, settings.identity, self._swap)
        return Workload(
            settings,
            self._settings,
            socket=self._socket_of(settings),
            keeper=keeper,
            metrics=self._metrics,
            clock=self._clock,
            random=self._random,
        )

    def _socket_of(self, settings: WorkloadSettings) -> Path:
        if settings.socket is not None:
            return settings.socket
        if self._settings.shared is None:
            raise ConfigurationError(f"workload {settings.name} has no socket and shares none")
        return self._settings.shared.directory / f"{settings.name}.sock"

    async def _make_directory(self) -> None:
        if self._settings.shared is not None:
            make_own(self._settings.shared.directory)

    async def _share(self, closing: AsyncExitStack) -> None:
        shared = self._settings.shared
        if shared is None:
            return
        owners = [
            Owner(
                workload=workload.settings.name,
                uid=workload.settings.uid,
                gid=workload.settings.gid,
                socket=workload.socket,
            )
            for workload in self.workloads
            if workload.settings.uid is not None and workload.settings.socket is None
        ]
        listener = SharedSocket(shared.socket, owners, self._metrics)
        await listener.start()
        closing.push_async_callback(listener.stop)

    async def _show_status(self, closing: AsyncExitStack) -> None:
        if self._settings.status_socket is None:
            return
        status = StatusSocket(self._settings.status_socket, lambda: describe(self.workloads))
        await status.start()
        closing.push_async_callback(status.stop)


async def _as_coroutine(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


async def until_ended(agent: Agent, ready: Callable[[], Awaitable[None]] | None = None) -> None:
    """Run an agent until SIGTERM or SIGINT; SIGHUP renews.

    Args:
        agent: The agent.
        ready: Called once all sockets are there.

    Raises:
        ConfigurationError: It cannot start.
    """
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(agent.run(ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    loop.add_signal_handler(signal.SIGHUP, agent.renew)
    try:
        await running
    except asyncio.CancelledError:
        return
