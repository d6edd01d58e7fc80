"""An agent as a process: log, figures, probes and the agent itself, in one event loop.

Without command line and configuration files, whose libraries take a third of
the memory: `cli` reads these and starts this module in its own place, by
exec(2), with the settings in an open file. There is one agent beside each
Envoy, so that megabytes count.
"""

import os
import pickle
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import SystemRandom
from typing import NoReturn

import uvloop

from meshsigner.agent.process import Agent, until_ended
from meshsigner.agent.settings import AgentSettings
from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import LogFormat, configure, get_logger
from meshsigner.observe.names import Event

CANNOT_START = 3  # as every command says of wrong input
_OUTPUT_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a process is started with.

    Attributes:
        settings: The agent's.
        source: Where they come from, for a problem.
        log_format: How lines look.
        log_level: The lowest level that is written.
        admin: host:port for probes and figures; None for no port.
    """

    settings: AgentSettings
    source: str
    log_format: LogFormat
    log_level: int
    admin: str | None = None


def become(plan: Plan) -> NoReturn:
    """Turn this process into the agent's.

    Args:
        plan: What it is started with.

    Raises:
        OSError: It cannot be executed.
    """
    # In memory, for the root file system may be read-only; 0: it stays open over exec(2).
    with os.fdopen(os.memfd_create("plan", 0), "w+b") as file:
        pickle.dump(plan, file)
        file.flush()
        file.seek(0)
        # -P: what lies in the working directory is no code of ours.
        arguments = [sys.executable, "-P", "-m", __name__, str(file.fileno())]
        os.execv(sys.executable, arguments)  # noqa: S606 - our own interpreter, no shell


def run(plan: Plan) -> int:
    """Run an agent until a signal ends it.

    Args:
        plan: What it is started with.

    Returns:
        The exit code.
    """
    configure(plan.log_format, plan.log_level)
    try:
        uvloop.run(_live(plan))
    except ConfigurationError as error:
        lines = [f"error: {plan.source}: the agent cannot start with this", *error.problems]
        sys.stderr.write("\n  ".join(lines) + "\n")
        return CANNOT_START
    return 0


async def _live(plan: Plan) -> None:
    metrics = AgentMetrics(workload.name for workload in plan.settings.workloads)
    agent = Agent(plan.settings, metrics=metrics, random=SystemRandom().random, swap=_swap)
    async with AsyncExitStack() as closing:
        await until_ended(agent, _admin(agent, plan.admin, metrics, closing))


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


def _admin(
    agent: Agent, address: str | None, metrics: AgentMetrics, closing: AsyncExitStack
) -> Callable[[], Awaitable[None]] | None:
    """Return what opens the port for probes, None when there is none."""
    if address is None:
        return None
    # Its library takes nine megabytes, from those alone who want the port.
    from meshsigner.admin.server import AdminServer  # noqa: PLC0415

    admin = AdminServer(listen=address, shown=_Shown(agent, metrics))
    closing.push_async_callback(admin.stop)

    async def start() -> None:
        await admin.start()
        host = address.rpartition(":")[0]
        get_logger().info(Event.AGENT_PROBES, admin=f"{host}:{admin.port}")

    return start


def _swap(directory: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Write a certificate's files; others may read what is public in them."""
    # Only who keeps files needs what keeps them whole.
    from meshsigner.trust.writing import locked, swap_files  # noqa: PLC0415

    directory.mkdir(mode=_OUTPUT_MODE, parents=True, exist_ok=True)
    with locked(directory):
        swap_files(directory, files, mode=_OUTPUT_MODE)


def main() -> NoReturn:
    """Run with the settings of the file descriptor that is named."""
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        plan = pickle.load(file)  # noqa: S301 - written by `become` in this very process
    sys.exit(run(plan))


if __name__ == "__main__":
    main()
