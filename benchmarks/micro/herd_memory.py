"""What a herd of idle TLS connections holds in a worker, and what comes back when it has gone.

One worker for each allocator or setting of one: memory after a little load, with the
herd, after it has closed, after the allocator was told to give free memory back, and
after some churn. The herd is dialled from many loopback addresses, for 28,000 ports an
address do not last; once a connection stands its client forgets the TLS session and
keeps the socket, so that it costs the driver nothing.
"""

import asyncio
import os
import resource
import signal
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.table import Table

from benchmarks.load.client import Server
from benchmarks.load.frames import ACK, PREFACE, SETTINGS, encode, encode_settings
from benchmarks.load.report import machine, table
from benchmarks.micro.ground import DRIVER_CORE, Ground
from benchmarks.peers.report import faults
from benchmarks.peers.servers import Peer, odd_meshsigner
from benchmarks.peers.stretch import Stretch, Way, closed, run_stretch, unchecked_tls
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.processes import cpu_time, on_core, resident_bytes

GOAL_MB: Final = 500.0
"""Most memory that 10,000 idle connections may add to a worker."""

_LIMITS: Final = {"connections": 20_000, "connection_idle": "1h", "connection_age": "24h"}
_SOURCES: Final = 200
_SPARE_FILES: Final = 1_000
_LOAD: Final = 1_000
_SETTLE_S: Final = 3.0
_CLOSE_S: Final = 12.0
_READ_BYTES: Final = 16_384
_MB: Final = 1e6

ALLOCATORS: Final[Mapping[str, Mapping[str, str]]] = {
    "glibc": {},
    "glibc, MALLOC_ARENA_MAX=1": {"MALLOC_ARENA_MAX": "1"},
    "glibc, MALLOC_ARENA_MAX=2": {"MALLOC_ARENA_MAX": "2"},
    "glibc, MALLOC_TRIM_THRESHOLD_=128 KiB": {"MALLOC_TRIM_THRESHOLD_": "131072"},
    "jemalloc": {"LD_PRELOAD": "libjemalloc.so.2"},
    "tcmalloc": {"LD_PRELOAD": "libtcmalloc_minimal.so.4"},
}
"""What is tried, by name; Debian's packages libjemalloc2 and libtcmalloc-minimal4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident memory of one worker, bytes, at five times.

    Args:
        allocator: Which one it had.
        before: After some load, before the herd.
        herd: With the herd.
        closed: Some seconds after it had closed.
        trimmed: After malloc_trim, which only glibc listens to.
        churned: After as many certificates with a new connection each.
        connect_us: Server CPU of one connection of the herd.
        connections: How many it had.
    """

    allocator: str
    before: int
    herd: int
    closed: int
    trimmed: int
    churned: int
    connect_us: float
    connections: int

    @property
    def added_mb(self) -> float:
        """What the herd added, MB."""
        return (self.herd - self.before) / _MB

    @property
    def met(self) -> bool:
        """Whether that is no more than it should be, for 10,000."""
        return self.added_mb / self.connections * 10_000 <= GOAL_MB


def run(
    connections: int,
    allocators: Sequence[str],
    work: Path,
    cache: Path,
    on_stage: OnStage,
) -> tuple[list[Memory], list[Stretch]]:
    """Measure every allocator, one after the other.

    Args:
        connections: Size of the herd.
        allocators: Names in ALLOCATORS.
        work: Directory for the servers.
        cache: Where the callers' keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start.
        ValueError: The process may not open so many files.
    """
    _allow_files(connections + _SPARE_FILES)
    ground = Ground.prepare(work, cache, on_stage)
    step = on_stage("allocators", len(allocators))
    found, stretches = [], []
    for name in allocators:
        place = ground.place(name.replace("/", " "), environment=ALLOCATORS[name])
        with odd_meshsigner(place, settings={"limits": _LIMITS}, name=name) as peer:
            memory, loads = _measure(peer, ground, connections)
        found.append(memory)
        stretches += loads
        step()
    return found, stretches


def _allow_files(number: int) -> None:
    """Raise the bound on open files, for this process and the servers it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number:
        raise ValueError(f"{number} open files are needed and {hard} allowed; raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure(peer: Peer, ground: Ground, connections: int) -> tuple[Memory, list[Stretch]]:
    with on_core(DRIVER_CORE):
        loads = [_load(peer, ground, "warm")]
        before, cpu_s = _memory(peer), _cpu_s(peer)
        with _herd(peer.server, connections):
            time.sleep(_SETTLE_S)
            herd, connect_s = _memory(peer), _cpu_s(peer) - cpu_s
        time.sleep(_CLOSE_S)
        closed_ = _memory(peer)
        os.kill(peer.pid, signal.SIGUSR1)
        time.sleep(_SETTLE_S)
        trimmed = _memory(peer)
        loads.append(_load(peer, ground, "churn"))
        time.sleep(_SETTLE_S)
        memory = Memory(
            allocator=peer.name,
            before=before,
            herd=herd,
            closed=closed_,
            trimmed=trimmed,
            churned=_memory(peer),
            connect_us=connect_s / connections * 1e6,
            connections=connections,
        )
    return memory, loads


def _load(peer: Peer, ground: Ground, way: Way) -> Stretch:
    drive = closed(ground.calls(_LOAD), 16)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_stretch(peer, way, drive, case=way, round_=0))


def _memory(peer: Peer) -> int:
    return sum(resident_bytes(peer.pid))


def _cpu_s(peer: Peer) -> float:
    return cpu_time(peer.pid).total_s


@contextmanager
def _herd(server: Server, number: int) -> Iterator[None]:
    """Hold that many connections for the length of a block."""
    tls = unchecked_tls()
    sources = cycle(f"127.0.1.{host}" for host in range(1, _SOURCES + 1))
    held = [_connect(server, tls, source) for source in islice(sources, number)]
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


def _connect(server: Server, tls: ssl.SSLContext, source: str) -> int:
    """Open a connection, greet as a gRPC client does, and return what is left: the socket."""
    address = (server.host, server.port)
    plain = socket.create_connection(address, source_address=(source, 0))
    with tls.wrap_socket(plain, server_hostname=server.name) as connection:
        connection.sendall(PREFACE + encode_settings({}))
        connection.recv(_READ_BYTES)
        connection.sendall(encode(SETTINGS, ACK, 0))
        return connection.detach()


def as_data(found: Sequence[Memory], stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    return {
        "scenario": "herd-memory",
        "machine": machine(),
        "figures": [asdict(one) | {"added_mb": one.added_mb, "met": one.met} for one in found],
        "goal_mb": GOAL_MB,
        "faults": faults(stretches),
        "stretches": [asdict(stretch) for stretch in stretches],
    }


def figures(found: Sequence[Memory]) -> Table:
    """Return all memories side by side."""
    columns = ["allocator", "before MB", "herd", "added", "KB each", "closed", "trimmed"]
    columns += ["after churn", "CPU us a connection"]
    return table("Memory of one worker", columns, [_row(one) for one in found])


def _row(one: Memory) -> tuple[str, ...]:
    return (
        one.allocator,
        f"{one.before / _MB:.0f}",
        f"{one.herd / _MB:.0f}",
        f"{one.added_mb:.0f}",
        f"{one.added_mb * 1e3 / one.connections:.0f}",
        f"{one.closed / _MB:.0f}",
        f"{one.trimmed / _MB:.0f}",
        f"{one.churned / _MB:.0f}",
        f"{one.connect_us:,.0f}",
    )
