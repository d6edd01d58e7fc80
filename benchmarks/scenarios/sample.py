"""One measured stretch of load: what it cost the server and what the callers saw."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.load.audit import Audit, audit
from benchmarks.load.calls import Call
from benchmarks.load.client import Connection, dial
from benchmarks.load.driver import OnProgress, run_closed
from benchmarks.load.report import Latency, latency
from benchmarks.scenarios.processes import cpu_time
from benchmarks.scenarios.servers import Running

_TIMEOUT_S: Final = 120.0
_SETTLE_S: Final = 0.1
"""Time for what the server does after its answers: logs, metrics, late bookkeeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One stretch of load on one server.

    Args:
        case: What the calls were.
        round: The round it belongs to, from 0; samples of one round are comparable.
        calls: How many calls it consisted of.
        cpu_us: Server CPU per call, all its processes and threads.
        user_us: The part in user mode.
        system_us: The part in the kernel.
        driver_us: The driver's own CPU per call.
        per_s: Calls answered per second.
        latency: What callers saw.
        audit: What the answers are worth.
    """

    case: str
    round: int
    calls: int
    cpu_us: float
    user_us: float
    system_us: float
    driver_us: float
    per_s: float
    latency: Latency
    audit: Audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server with the warm connections that lead to it.

    Args:
        running: The server.
        connections: Its connections, handshakes done.
        certificates: Whether its answers are certificates to be checked.
    """

    running: Running
    connections: Sequence[Connection]
    certificates: bool


async def warm_target(running: Running, connections: int, *, certificates: bool) -> Target:
    """Return the server with that many new connections."""
    tls = running.server.tls_context()
    dialled = [await dial(running.server, tls) for _ in range(connections)]
    return Target(running=running, connections=dialled, certificates=certificates)


async def take_sample(
    target: Target,
    case: str,
    round_: int,
    calls: Sequence[Call],
    *,
    in_flight: int,
    on_progress: OnProgress,
) -> Sample:
    """Run the calls in closed loop and return what they cost.

    Args:
        target: Where to send them.
        case: Name for the report.
        round_: The round's number.
        calls: At least one.
        in_flight: How many are under way at any time.
        on_progress: Called after each answer.
    """
    pid = target.running.process.pid
    cpu, own, began = cpu_time(pid), time.process_time(), time.perf_counter()
    outcomes = await run_closed(
        target.connections,
        calls,
        in_flight=in_flight,
        timeout_s=_TIMEOUT_S,
        on_progress=on_progress,
    )
    took_s, own_s = time.perf_counter() - began, time.process_time() - own
    await asyncio.sleep(_SETTLE_S)
    used, us_per_call = cpu_time(pid) - cpu, 1e6 / len(calls)
    return Sample(
        case=case,
        round=round_,
        calls=len(calls),
        cpu_us=used.total_s * us_per_call,
        user_us=used.user_s * us_per_call,
        system_us=used.system_s * us_per_call,
        driver_us=own_s * us_per_call,
        per_s=len(calls) / took_s,
        latency=latency(outcomes),
        audit=audit(outcomes, certificates=target.certificates),
    )
