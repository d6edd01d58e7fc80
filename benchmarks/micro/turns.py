"""Turns against none: what gathering calls saves, what it costs who comes alone.

Two servers on one core, one with turns as it is, one that works on each call alone and
at once (`odd_server`), get the same calls one after the other: in closed loop with 1 to
1,000 in flight, and in open loop at shares of what the server with turns can do. Beside
cost and latency stands how large turns and commits were, from the server's own metrics.
"""

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.table import Table

from benchmarks.load.arrivals import poisson_arrivals
from benchmarks.load.calls import Call
from benchmarks.load.driver import OnProgress, run_open
from benchmarks.load.report import machine, spread, table
from benchmarks.micro.counted import Counted
from benchmarks.micro.ground import DRIVER_CORE, Ground
from benchmarks.peers.servers import Peer, odd_meshsigner
from benchmarks.peers.stretch import Drive, Stretch, closed, run_stretch
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.processes import on_core

GOAL: Final = 1.8
"""What turns should save at 16 in flight: times the CPU a certificate takes with them."""

_WITH: Final = "turns"
_WITHOUT: Final = "none"
_IN_FLIGHT: Final = {1: 400, 16: 1_500, 64: 1_500, 1_000: 3_000}
_SHARES: Final = (0.2, 0.5, 0.8, 1.0, 1.2)
_FULL: Final = 64
_TIMEOUT_S: Final = 30.0
_STREAMS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnsPlan:
    """How much to measure.

    Args:
        rounds: Rounds of everything.
        open_s: Length of each stretch in open loop.
    """

    rounds: int = 3
    open_s: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One stretch with what the server says of it.

    Args:
        stretch: Cost and latency.
        members: Calls in a turn, mean.
        rows: Rows in a commit, mean.
    """

    stretch: Stretch
    members: float
    rows: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What both servers get."""

    name: str
    calls: list[Call]
    drive: Drive
    connections: int


def run(plan: TurnsPlan, work: Path, cache: Path, on_stage: OnStage) -> list[Point]:
    """Measure everything.

    Args:
        plan: How much.
        work: Directory for the servers, on a real disk.
        cache: Where the callers' keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start.
    """
    ground = Ground.prepare(work, cache, on_stage)
    loads = len(_IN_FLIGHT) + len(_SHARES)
    step = on_stage("stretches", plan.rounds * loads * 2)
    with ExitStack() as stack:
        peers = [
            stack.enter_context(odd_meshsigner(ground.place(_WITH), name=_WITH)),
            stack.enter_context(
                odd_meshsigner(ground.place(_WITHOUT), "--without-turns", name=_WITHOUT)
            ),
        ]
        stack.enter_context(on_core(DRIVER_CORE))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        capacity_per_s = runner.run(_capacity(peers, ground))
        points = []
        for number in range(plan.rounds):
            for load in _loads(plan, ground, capacity_per_s):
                points += runner.run(_both(peers, load, number, step))
    return points


async def _capacity(peers: Sequence[Peer], ground: Ground) -> float:
    """Warm all servers up and return what the first can do a second."""
    found = []
    for peer in peers:
        drive = closed(ground.calls(2_000), _FULL)
        found.append(await run_stretch(peer, "warm", drive, case="warm-up", round_=-1))
    return found[0].per_s


def _loads(plan: TurnsPlan, ground: Ground, capacity_per_s: float) -> Iterator[_Load]:
    """Yield all loads, each with calls of its own, made when it is their turn."""
    for in_flight, number in _IN_FLIGHT.items():
        calls = ground.calls(number)
        connections = max(4, in_flight * 2 // _STREAMS)
        yield _Load(
            name=f"{in_flight} in flight",
            calls=calls,
            drive=closed(calls, in_flight),
            connections=connections,
        )
    for share in _SHARES:
        rate = share * capacity_per_s
        calls = ground.calls(round(rate * plan.open_s))
        yield _Load(
            name=f"open, {share:.0%}".replace("%", " %"),
            calls=calls,
            drive=_at_rate(calls, rate),
            connections=20,
        )


def _at_rate(calls: list[Call], rate_per_s: float) -> Drive:
    offsets = list(poisson_arrivals(rate_per_s, len(calls), seed=1))
    return partial(run_open, calls=calls, offsets_ns=offsets, timeout_s=_TIMEOUT_S)


async def _both(peers: Sequence[Peer], load: _Load, number: int, step: OnProgress) -> list[Point]:
    points = []
    for peer in peers[:: 1 if number % 2 else -1]:
        before = Counted.read(peer.admin_port)
        stretch = await run_stretch(
            peer,
            "warm",
            load.drive,
            case=load.name,
            round_=number,
            connections=load.connections,
        )
        counted = Counted.read(peer.admin_port).since(before)
        points.append(
            Point(
                stretch=stretch,
                members=counted.mean("meshsigner_turn_members"),
                rows=counted.mean("meshsigner_commit_records"),
            )
        )
        step()
    return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One load's figures at one server: medians over the rounds.

    Args:
        load: Which.
        server: Which.
        us: Server CPU a certificate.
        per_s: Certificates a second.
        refused: Share of calls that were turned away.
        p50_ms: What callers waited, refused ones too.
        p99_ms: The same, 99 of 100.
        members: Calls in a turn.
        rows: Rows in a commit.
    """

    load: str
    server: str
    us: float
    per_s: float
    refused: float
    p50_ms: float
    p99_ms: float
    members: float
    rows: float


def summarize(points: Sequence[Point], load: str, server: str) -> Summary:
    """Return the medians of all rounds."""
    ones = [p for p in points if p.stretch.case == load and p.stretch.server == server]
    stretches = [point.stretch for point in ones]
    return Summary(
        load=load,
        server=server,
        us=statistics.median(_us_a_certificate(s) for s in stretches),
        per_s=statistics.median(s.per_s * s.audit.right / s.calls for s in stretches),
        refused=statistics.median(1 - s.audit.right / s.calls for s in stretches),
        p50_ms=statistics.median(s.latency.p50_ms for s in stretches),
        p99_ms=statistics.median(s.latency.p99_ms for s in stretches),
        members=statistics.median(point.members for point in ones),
        rows=statistics.median(point.rows for point in ones),
    )


def _us_a_certificate(stretch: Stretch) -> float:
    return stretch.cpu_us * stretch.calls / max(stretch.audit.right, 1)


def loads_of(points: Sequence[Point]) -> list[str]:
    """Return the loads in the order in which they were put on."""
    return list(dict.fromkeys(point.stretch.case for point in points))


def gain(points: Sequence[Point], load: str) -> float:
    """Return how many times as much CPU a certificate takes without turns, round by round."""
    cost = {
        (p.stretch.round, p.stretch.server): _us_a_certificate(p.stretch)
        for p in points
        if p.stretch.case == load
    }
    rounds = {number for number, _ in cost}
    return spread([cost[n, _WITHOUT] / cost[n, _WITH] for n in rounds]).median


def as_data(plan: TurnsPlan, points: Sequence[Point]) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    wrong = [f"{p.stretch.server}: {text}" for p in points for text in p.stretch.audit.wrong]
    return {
        "scenario": "turns",
        "machine": machine(),
        "plan": asdict(plan),
        "figures": {load: gain(points, load) for load in loads_of(points)},
        "goal": {"16 in flight": GOAL},
        "faults": wrong,
        "points": [asdict(point) for point in points],
    }


def figures(points: Sequence[Point]) -> Table:
    """Return cost and latency with turns and without, side by side."""
    columns = ["load", "calls a turn", "rows a commit", "us", "us, none", "gain"]
    columns += ["/s", "/s, none", "p50 ms", "none", "p99 ms", "none", "refused", "none"]
    rows = [_row(points, load) for load in loads_of(points)]
    return table("Turns against none: medians over the rounds", columns, rows)


def _row(points: Sequence[Point], load: str) -> tuple[str, ...]:
    turns, none = (summarize(points, load, server) for server in (_WITH, _WITHOUT))
    return (
        load,
        f"{turns.members:.1f}",
        f"{turns.rows:.1f}",
        f"{turns.us:,.0f}",
        f"{none.us:,.0f}",
        f"{gain(points, load):.2f}",
        *(f"{one.per_s:,.0f}" for one in (turns, none)),
        *(f"{one.p50_ms:.1f}" for one in (turns, none)),
        *(f"{one.p99_ms:.1f}" for one in (turns, none)),
        *(f"{one.refused:.1%}" for one in (turns, none)),
    )
