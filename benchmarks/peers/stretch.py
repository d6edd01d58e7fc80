"""One measured stretch of load on one server: what it cost, what callers saw, what it was worth.

A stretch is either warm (a few connections that carry everything) or churn (a new TLS
connection for each call, as each new pod opens one). CPU time is that of all the
server's processes, read from the kernel before and after.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from benchmarks.load.audit import Audit, audit
from benchmarks.load.calls import Call, Outcome, Sender
from benchmarks.load.channel import Dialer, FreshConnections
from benchmarks.load.client import Connection, Server, dial
from benchmarks.load.driver import run_closed
from benchmarks.load.report import Latency, latency
from benchmarks.peers.servers import Peer
from benchmarks.scenarios.processes import CpuTime, cpu_time, family, own_cpu_s

Way = Literal["warm", "churn"]

CONNECTIONS: Final = 4
_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 0.15
"""Time for what the server does after its answers: logs, metrics, late bookkeeping."""

_ANY_NUMBER: Final = 1 << 31

Drive = Callable[[Sequence[Sender]], Coroutine[Any, Any, list[Outcome]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What came of it.

    Args:
        server: The server's name.
        case: What was asked of it.
        round: Number of the round; stretches of one round are comparable.
        calls: How many.
        cpu_us: Server CPU a call, all processes and threads.
        supervisor_us: The part of its first process, if that has others.
        system_us: The part in the kernel, good to a clock tick over the whole stretch.
        driver_us: The driver's own CPU a call.
        per_s: Calls answered a second.
        latency: What callers saw.
        audit: What the answers are worth.
    """

    server: str
    case: str
    round: int
    calls: int
    cpu_us: float
    supervisor_us: float
    system_us: float
    driver_us: float
    per_s: float
    latency: Latency
    audit: Audit


def unchecked_tls() -> ssl.SSLContext:
    """Return client settings that take any server's certificate.

    The chain's verification is a third of what a connection costs the driver (OpenSSL 3.0:
    880 us with it, 590 without), and with it the driver is the bottleneck instead of the
    server. The peer is a process that the run itself has started, on loopback; its
    certificate is verified where connections stay.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


async def run_stretch(
    peer: Peer,
    way: Way,
    drive: Drive,
    *,
    case: str,
    round_: int,
    certificates: bool = True,
    connections: int = CONNECTIONS,
    rude: bool = False,
) -> Stretch:
    """Put a load on a server and return what it cost.

    Args:
        peer: The server.
        way: How calls reach it.
        drive: Sends the calls and returns their outcomes.
        case: Name for the report.
        round_: The round's number.
        certificates: False if refusals are wanted: then nothing in the answers is checked.
        connections: How many carry the calls when they are warm.
        rude: Whether they open more streams than the server allows.
    """
    senders, close = await _senders(peer.server, way, connections)
    drive = partial(_rudely, drive) if rude else drive
    before, own, began = _reading(peer.pid), time.process_time(), time.perf_counter()
    outcomes = await drive(senders)
    took_s, own_s = time.perf_counter() - began, time.process_time() - own
    await asyncio.sleep(_SETTLE_S)
    after = _reading(peer.pid)
    close()
    us = 1e6 / len(outcomes)
    return Stretch(
        server=peer.name,
        case=case,
        round=round_,
        calls=len(outcomes),
        cpu_us=(after[0] - before[0]).total_s * us,
        supervisor_us=(after[1] - before[1]) * us if len(family(peer.pid)) > 1 else 0.0,
        system_us=(after[0] - before[0]).system_s * us,
        driver_us=own_s * us,
        per_s=len(outcomes) / took_s,
        latency=latency(outcomes),
        audit=audit(outcomes, certificates=certificates),
    )


async def _rudely(drive: Drive, senders: Sequence[Sender]) -> list[Outcome]:
    """Drive connections that have forgotten how many streams they may open."""
    for sender in senders:
        if isinstance(sender, Connection):
            sender._max_streams = _ANY_NUMBER  # noqa: SLF001 - what no proper client can be told
    return await drive(senders)


def closed(calls: Sequence[Call], in_flight: int) -> Drive:
    """Return what keeps `in_flight` of the calls under way until all are done."""
    return partial(run_closed, calls=calls, in_flight=in_flight, timeout_s=_TIMEOUT_S)


async def _senders(
    server: Server, way: Way, number: int
) -> tuple[Sequence[Sender], Callable[[], None]]:
    """Return what carries calls that way, and what closes it."""
    if way == "churn":
        return [FreshConnections(Dialer(server, 0, unchecked_tls()))], lambda: None
    tls = server.tls_context()
    connections = [await dial(server, tls) for _ in range(number)]

    def close() -> None:
        for connection in connections:
            connection.close()

    return connections, close


def _reading(pid: int) -> tuple[CpuTime, float]:
    """Return the CPU time of a server with all its processes, and of its first one alone."""
    return cpu_time(pid), own_cpu_s(pid)
