"""An agent under signals."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from meshsigner.agent.ca_client import CaSettings
from meshsigner.agent.process import Agent, until_ended
from meshsigner.agent.settings import AgentSettings, WorkloadSettings
from meshsigner.errors import ConfigurationError
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.spiffe import SpiffeId
from meshsigner.trust.writing import swap_files
from tests.wire.harness import until


def _agent(folder: Path) -> Agent:
    workload = WorkloadSettings(
        name="productpage",
        identity=SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/productpage"),
        token_file=folder / "token",
        socket=folder / "socket",
    )
    ca = CaSettings(address="127.0.0.1:9", root_file=folder / "missing.pem")
    settings = AgentSettings(ca=ca, workloads=(workload,))
    metrics = AgentMetrics(["productpage"])
    return Agent(settings, metrics=metrics, random=lambda: 0.5, swap=swap_files)


def _then(number: signal.Signals) -> Callable[[], Awaitable[None]]:
    async def send() -> None:
        os.kill(os.getpid(), number)

    return send


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_the_agent_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """It returns, and its socket is gone."""
    async with asyncio.timeout(10):
        await until_ended(_agent(tmp_path), _then(number))
    assert not (tmp_path / "socket").exists()


async def test_hangup_renews_every_workload(tmp_path: Path) -> None:
    """SIGHUP does not end it: certificates are asked for again, soon."""
    agent = _agent(tmp_path)
    (workload,) = agent.workloads
    task = asyncio.create_task(until_ended(agent))
    await until(lambda: workload.life.last_failure != "")
    before = workload.life.due_at
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: workload.life.due_at != before)
    assert not task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 10)


async def test_what_keeps_it_from_starting_is_raised(tmp_path: Path) -> None:
    """Not swallowed as an end."""
    (tmp_path / "socket").write_text("in the way")
    with pytest.raises(ConfigurationError, match="is no socket"):
        await until_ended(_agent(tmp_path))
