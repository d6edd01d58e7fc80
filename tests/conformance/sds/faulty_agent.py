"""The agent with a fault that is set off by SIGUSR1: a certificate with the key of another.

A CA cannot bring this about, for the agent checks its answers; so the fault is put behind the
check. SIGUSR2 lets every workload renew. All else is the agent as it is. Run with `--config FILE`,
like `meshsigner agent run`.
"""

import asyncio
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

from meshsigner.agent.keys import KeyType, make_key, render_key
from meshsigner.agent.process import Agent, until_ended
from meshsigner.cli.agent_parts import settings_of
from meshsigner.config.agent import load_agent_config
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import LogFormat, configure
from meshsigner.trust.writing import swap_files


def _break(agent: Agent) -> None:
    """Offer the certificate that is served with the key of none."""
    for workload in agent.workloads:
        svid = workload.store.svid
        assert svid is not None
        other = render_key(make_key(KeyType.P256))
        # Another chain text, for a version says what is public in a secret.
        workload.store.take(replace(svid, key_pem=other, chain_pem=svid.chain_pem + b"\n"))


def _renew(agent: Agent) -> None:
    for workload in agent.workloads:
        workload.life.renew()


async def _live(agent: Agent) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, _break, agent)
    loop.add_signal_handler(signal.SIGUSR2, _renew, agent)
    await until_ended(agent)


def main(config: Path) -> None:
    """Run it.

    Args:
        config: The agent's configuration.
    """
    configure(LogFormat.JSON)
    settings = settings_of(load_agent_config(config))
    metrics = AgentMetrics(workload.name for workload in settings.workloads)
    agent = Agent(settings, metrics=metrics, random=random.random, swap=swap_files)
    asyncio.run(_live(agent))


if __name__ == "__main__":
    main(Path(sys.argv[2]))
