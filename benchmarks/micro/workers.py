"""Two workers against one: CPU a certificate, throughput, and how long commits take.

One worker on one core is the measure. Two workers are tried on that same core, which
shows what a second process costs by itself, and on both cores, which is how they run;
there the driver has to share a core with one of them, so throughput is less than two
cores of their own would give. In-flight calls are twice as many for two workers, over
connections enough that the kernel's spreading by SO_REUSEPORT evens out.

Commit latencies are those of the recorders' threads with a file each, at a fixed total
of rows a second (`benchmarks.micro.writers`).
"""

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.table import Table

from benchmarks.load.report import machine, spread, table
from benchmarks.micro import writers
from benchmarks.micro.ground import DRIVER_CORE, SERVER_CORE, Ground
from benchmarks.peers.report import faults
from benchmarks.peers.servers import Peer, meshsigner
from benchmarks.peers.stretch import Drive, Stretch, Way, closed, run_stretch
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.processes import on_core

GOAL: Final = 1.05
"""Most CPU a certificate of two workers, in parts of one worker's."""

WAYS: Final[tuple[Way, ...]] = ("warm", "churn")
_IN_FLIGHT: Final = 16
_CONNECTIONS: Final = 32
_ROWS_PER_S: Final = 1_000.0
_WRITING_S: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """How a server runs.

    Args:
        workers: How many.
        core: Where all its processes are kept; None leaves them both cores.
    """

    workers: int
    core: int | None

    def __str__(self) -> str:
        """Return it in words."""
        cores = "both cores" if self.core is None else "one core"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''}, {cores}"


ONE: Final = SetUp(workers=1, core=SERVER_CORE)
SET_UPS: Final = (ONE, SetUp(workers=2, core=SERVER_CORE), SetUp(workers=2, core=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured.

    Args:
        stretches: Loads on servers.
        commits: For each number of writers, the figures of each round.
    """

    stretches: list[Stretch]
    commits: dict[int, list[dict[str, float]]]


def run(rounds: int, calls: int, work: Path, cache: Path, on_stage: OnStage) -> Results:
    """Measure everything.

    Args:
        rounds: How often.
        calls: Calls of a stretch, a worker.
        work: Directory for the servers, on a real disk.
        cache: Where the callers' keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start.
    """
    ground = Ground.prepare(work, cache, on_stage)
    stretches = []
    step = on_stage("stretches", (rounds + 1) * len(SET_UPS) * len(WAYS))
    with ExitStack() as stack:
        peers = [_start(stack, ground, set_up) for set_up in SET_UPS]
        stack.enter_context(on_core(DRIVER_CORE))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for number in range(-1, rounds):  # the first warms up and is not counted
            for way in WAYS:
                for set_up, peer in list(zip(SET_UPS, peers, strict=True))[:: 1 - 2 * (number % 2)]:
                    drive = _drive(ground, set_up, calls)
                    found = runner.run(_load(peer, way, drive, number))
                    stretches += [found] if number >= 0 else []
                    step()
    return Results(stretches=stretches, commits=_commits(rounds, on_stage))


def _start(stack: ExitStack, ground: Ground, set_up: SetUp) -> Peer:
    name = f"{set_up.workers}-{set_up.core}"
    place = ground.place(name, core=set_up.core)
    return stack.enter_context(meshsigner(place, workers=set_up.workers, name=str(set_up)))


def _drive(ground: Ground, set_up: SetUp, calls: int) -> Drive:
    return closed(ground.calls(calls * set_up.workers), _IN_FLIGHT * set_up.workers)


async def _load(peer: Peer, way: Way, drive: Drive, number: int) -> Stretch:
    return await run_stretch(peer, way, drive, case=way, round_=number, connections=_CONNECTIONS)


def _commits(rounds: int, on_stage: OnStage) -> dict[int, list[dict[str, float]]]:
    step = on_stage("commits", rounds * 3)
    load = writers.Load(rows_per_s=_ROWS_PER_S, seconds=_WRITING_S)
    found: dict[int, list[dict[str, float]]] = {1: [], 2: [], 4: []}
    for _ in range(rounds):
        for number, ones in found.items():
            ones.append(writers.measure("own", number, load))
            step()
    return found


def ratio(stretches: Sequence[Stretch], way: Way, set_up: SetUp) -> tuple[float, float, float]:
    """Return CPU a certificate in parts of one worker's: median, low and high of the rounds."""
    cost = {(s.server, s.round): s.cpu_us for s in stretches if s.case == way}
    rounds = {number for _, number in cost}
    found = spread([cost[str(set_up), n] / cost[str(ONE), n] for n in rounds])
    return found.median, found.low, found.high


def as_data(results: Results) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    return {
        "scenario": "workers",
        "machine": machine(),
        "figures": {
            f"{way}, {set_up}": ratio(results.stretches, way, set_up)
            for way in WAYS
            for set_up in SET_UPS[1:]
        },
        "goal": GOAL,
        "faults": faults(results.stretches),
        "results": asdict(results),
    }


def figures(results: Results) -> Table:
    """Return what each set-up costs and does."""
    columns = ("load", "us", "in parts of one worker's", "goal", "/s", "p50 ms", "p99 ms")
    rows = [_row(results, way, set_up) for way in WAYS for set_up in SET_UPS]
    return table("Workers: medians (low to high) over the rounds", columns, rows)


def _row(results: Results, way: Way, set_up: SetUp) -> tuple[str, ...]:
    ones = [s for s in results.stretches if s.case == way and s.server == str(set_up)]
    median, low, high = ratio(results.stretches, way, set_up)
    return (
        f"{way}, {set_up}",
        f"{statistics.median(s.cpu_us for s in ones):,.0f}",
        f"{median:.2f} ({low:.2f} to {high:.2f})",
        f"{GOAL}",
        f"{statistics.median(s.per_s for s in ones):,.0f}",
        f"{statistics.median(s.latency.p50_ms for s in ones):.1f}",
        f"{statistics.median(s.latency.p99_ms for s in ones):.1f}",
    )


def commit_figures(results: Results) -> Table:
    """Return how long rows wait until they are safe."""
    names = list(results.commits[1][0])
    rows = [
        (str(number), *(f"{statistics.median(one[name] for one in ones):.1f}" for name in names))
        for number, ones in results.commits.items()
    ]
    title = f"Writers with a file each, {_ROWS_PER_S:.0f} rows/s together, turns of 20 ms, FULL"
    return table(title, ("writers", *names), rows)
