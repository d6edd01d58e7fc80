"""How Istio's clients ask again: which answers, after how long, and when they dial anew.

Pure: schedules and questions; who waits is agents.py and nodes.py.

Source:
    istio/istio pkg/security/retry.go, pkg/backoff/exponential.go,
    security/pkg/nodeagent/sds/sdsservice.go; istio/ztunnel src/identity/manager.rs;
    grpc/grpc doc/connection-backoff.md.
"""

import random
from collections.abc import Iterator
from typing import Final

from benchmarks.load.headers import INTERNAL, RESOURCE_EXHAUSTED, UNAVAILABLE

ABORTED: Final = 10

AGENT_ATTEMPTS: Final = 5
RETRIED: Final = frozenset({RESOURCE_EXHAUSTED, ABORTED, INTERNAL, UNAVAILABLE})
"""What istio-agent asks again for. CANCELLED and DEADLINE_EXCEEDED are on its list too,
but the retry middleware never repeats those."""

NODE_IN_FLIGHT: Final = 8
"""Fetches that a ztunnel has under way at once."""

_AGENT_FIRST_S: Final = 0.1
_AGENT_JITTER: Final = 0.1


def agent_waits(chance: random.Random) -> Iterator[float]:
    """Yield the pauses in seconds between the five attempts of istio-agent."""
    for number in range(AGENT_ATTEMPTS - 1):
        yield _AGENT_FIRST_S * 2**number * _jitter(chance, _AGENT_JITTER)


def agent_redials(chance: random.Random) -> Iterator[float]:
    """Yield the pauses in seconds before istio-agent's next five attempts, without end.

    The agent's loop that fetches the first certificate: 0.5 s, 1.5 times as long each
    time up to 60 s, each 50 % shorter to 50 % longer.
    """
    return _growing(chance, first_s=0.5, factor=1.5, most_s=60.0, jitter=0.5)


def node_waits(chance: random.Random) -> Iterator[float]:
    """Yield the pauses in seconds after ztunnel's failures for one identity, without end."""
    return _growing(chance, first_s=1.0, factor=2.0, most_s=150.0, jitter=0.2)


def dial_waits(chance: random.Random) -> Iterator[float]:
    """Yield how long a gRPC channel fails calls at once after each dial that failed."""
    return _growing(chance, first_s=1.0, factor=1.6, most_s=120.0, jitter=0.2)


def _growing(
    chance: random.Random, *, first_s: float, factor: float, most_s: float, jitter: float
) -> Iterator[float]:
    wait_s = first_s
    while True:
        yield wait_s * _jitter(chance, jitter)
        wait_s = min(wait_s * factor, most_s)


def _jitter(chance: random.Random, share: float) -> float:
    return chance.uniform(1 - share, 1 + share)
