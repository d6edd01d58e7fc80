"""An agent as a process: log, figures, probes and the agent itself, in one event loop."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import SystemRandom

import uvloop

from meshsigner.agent.process import Agent, until_ended
from meshsigner.cli.agent_parts import settings_of
from meshsigner.config.agent import AgentConfig
from meshsigner.model import Health
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import LogFormat, configure, get_logger
from meshsigner.observe.names import Event
from meshsigner.trust.writing import locked, swap_files

_OUTPUT_MODE = 0o755


def run_agent(config: AgentConfig) -> None:
    """Run an agent until a signal ends it.

    Args:
        config: Its configuration.

    Raises:
        ConfigurationError: It cannot start; holds every problem.
    """
    level = logging.getLevelNamesMapping()[config.logging.level.upper()]
    configure(LogFormat(config.logging.format), level)
    settings = settings_of(config)
    metrics = AgentMetrics(workload.name for workload in settings.workloads)
    agent = Agent(settings, metrics=metrics, random=SystemRandom().random, swap=_swap)
    uvloop.run(_live(agent, config, metrics))


async def _live(agent: Agent, config: AgentConfig, metrics: AgentMetrics) -> None:
    async with AsyncExitStack() as closing:
        ready = _open_admin(agent, config, metrics, closing)
        await until_ended(agent, ready)


class _Shown:
    """What the port for probes shows of an agent."""

    def __init__(self, agent: Agent, metrics: AgentMetrics) -> None:
        self._agent = agent
        self._metrics = metrics

    async def readiness(self) -> tuple[bool, Sequence[Health]]:
        """Return whether every workload's certificate is served, and each one's health."""
        health = self._agent.health()
        return all(part.ready for part in health), health

    async def figures(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return self._metrics.render()


def _open_admin(
    agent: Agent, config: AgentConfig, metrics: AgentMetrics, closing: AsyncExitStack
) -> Callable[[], Awaitable[None]] | None:
    """Return what opens the port for probes, None when there is none."""
    if config.admin is None:
        return None
    host = config.admin.host
    # Its library takes ten megabytes, from those alone who want the port.
    from meshsigner.admin.server import AdminServer  # noqa: PLC0415

    admin = AdminServer(listen=str(config.admin), shown=_Shown(agent, metrics))
    closing.push_async_callback(admin.stop)

    async def start() -> None:
        await admin.start()
        get_logger().info(Event.AGENT_PROBES, admin=f"{host}:{admin.port}")

    return start


def _swap(directory: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Write a certificate's files; others may read what is public in them."""
    directory.mkdir(mode=_OUTPUT_MODE, parents=True, exist_ok=True)
    with locked(directory):
        swap_files(directory, files, mode=_OUTPUT_MODE)
