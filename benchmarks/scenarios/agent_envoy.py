"""From the CA's answer to a real Envoy's acknowledgement: the agent's own parts, with stamps.

The parts are put together as the agent does it, but for the two ends where time is taken.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
from grpc import aio

from meshsigner.agent.ca_client import CaClient, CaSettings
from meshsigner.agent.life import Life, Wish
from meshsigner.agent.schedule import Timing
from meshsigner.agent.sds_service import SERVICE, SdsService
from meshsigner.agent.secrets import SecretStore
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import LogFormat, configure
from meshsigner.spiffe import SpiffeId

_WORKLOAD: Final = "bench"
_ROUND_S: Final = 60.0


class _StampedCa:
    """A CA that remembers when it has answered."""

    def __init__(self, ca: CaClient) -> None:
        self._ca = ca
        self.answered_at = 0.0

    async def create_certificate(self, csr_pem: str, lifetime_s: int) -> tuple[str, ...]:
        """Ask, and take the time of the answer."""
        chain = await self._ca.create_certificate(csr_pem, lifetime_s)
        self.answered_at = time.perf_counter()
        return chain


class _StampedMetrics(AgentMetrics):
    """Figures that tell each acknowledgement at once."""

    def __init__(self) -> None:
        super().__init__([_WORKLOAD])
        self.accepted_at: asyncio.Queue[float] = asyncio.Queue()

    def accepted(self, seconds: float) -> None:
        """Count an acknowledgement, and take its time."""
        super().accepted(seconds)
        self.accepted_at.put_nowait(time.perf_counter())


@dataclass(frozen=True, slots=True, kw_only=True)
class StampedAgent:
    """An agent for one workload.

    Attributes:
        ca: Tells when the CA has answered.
        metrics: Tell when Envoy has acknowledged.
        life: Renews.
    """

    ca: _StampedCa
    metrics: _StampedMetrics
    life: Life

    async def settle(self, acknowledgements: int) -> None:
        """Wait for the first secrets' acknowledgements."""
        for _ in range(acknowledgements):
            await self.metrics.accepted_at.get()

    async def rotate(self) -> float:
        """Renew, and return the seconds from the CA's answer to Envoy's acknowledgement.

        Raises:
            TimeoutError: It was not acknowledged.
        """
        self.life.renew()
        async with asyncio.timeout(_ROUND_S):
            accepted_at = await self.metrics.accepted_at.get()
        return accepted_at - self.ca.answered_at


@asynccontextmanager
async def stamped_agent(
    ca: CaSettings, *, identity: str, token_file: Path, socket: Path
) -> AsyncIterator[StampedAgent]:
    """Have an agent in this event loop for the length of a block.

    Args:
        ca: The CA.
        identity: The workload's SPIFFE ID.
        token_file: Its token.
        socket: Where its Envoy looks.
    """
    configure(LogFormat.JSON, logging.WARNING)
    metrics, store = _StampedMetrics(), SecretStore(SpiffeId.parse(identity))
    stamped = _StampedCa(CaClient(ca, token_file=token_file, random=random.random))
    life = Life(
        Wish(workload=_WORKLOAD),
        store=store,
        ca=stamped,
        timing=Timing(spread=timedelta(0)),
        keeper=None,
        metrics=metrics,
        clock=lambda: datetime.now(UTC),
        random=random.random,
    )
    handlers = SdsService(_WORKLOAD, store, metrics).handlers()
    server = aio.server(handlers=(grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    living = asyncio.create_task(life.run())
    try:
        yield StampedAgent(ca=stamped, metrics=metrics, life=life)
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
        await server.stop(None)
