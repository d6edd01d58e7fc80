"""The same server under other variables of the environment: gRPC's switches, allocators.

Every variant is a server of its own on the same core and gets calls in turns with the
server as it is, in each round in another order; what counts is the difference within a
round. An effect smaller than the spread of the differences is none.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.table import Table

from benchmarks.load.report import Spread, machine, spread, table
from benchmarks.micro.ground import DRIVER_CORE, Ground
from benchmarks.peers.report import faults
from benchmarks.peers.servers import Peer, meshsigner
from benchmarks.peers.stretch import Stretch, Way, closed, run_stretch
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.processes import on_core

AS_IT_IS: Final = "as it is"
WAYS: Final[tuple[Way, ...]] = ("warm", "churn")
_IN_FLIGHT: Final = 16

Variants = Mapping[str, Mapping[str, str]]
"""Environments by the name they have in the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantsPlan:
    """How much to measure.

    Args:
        rounds: Rounds of everything.
        calls: Calls of a stretch.
    """

    rounds: int
    calls: int


def parse_variant(text: str) -> dict[str, str]:
    """Return an environment from `NAME=VALUE`, several parted by blanks.

    Raises:
        ValueError: A part has no `=`.
    """
    pairs = [part.partition("=") for part in text.split()]
    if not pairs or not all(name and sign for name, sign, _ in pairs):
        raise ValueError(f"{text!r} is not NAME=VALUE, several parted by blanks")
    return {name: value for name, _, value in pairs}


def run(
    plan: VariantsPlan, variants: Variants, work: Path, cache: Path, on_stage: OnStage
) -> list[Stretch]:
    """Measure every variant beside the server as it is.

    Args:
        plan: How much.
        variants: What is tried.
        work: Directory for the servers, on a real disk.
        cache: Where the callers' keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start.
    """
    ground = Ground.prepare(work, cache, on_stage)
    step = on_stage("stretches", (plan.rounds + 1) * (len(variants) + 1) * len(WAYS))
    stretches = []
    with ExitStack() as stack:
        peers = _start(stack, ground, {AS_IT_IS: {}} | dict(variants))
        stack.enter_context(on_core(DRIVER_CORE))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for number in range(-1, plan.rounds):  # the first warms up and is not counted
            for way in WAYS:
                for peer in _rotated(peers, number):
                    drive = closed(ground.calls(plan.calls), _IN_FLIGHT)
                    one = runner.run(run_stretch(peer, way, drive, case=way, round_=number))
                    stretches += [one] if number >= 0 else []
                    step()
    return stretches


def _start(stack: ExitStack, ground: Ground, variants: Variants) -> list[Peer]:
    return [
        stack.enter_context(
            meshsigner(ground.place(f"variant-{number}", environment=environment), name=name)
        )
        for number, (name, environment) in enumerate(variants.items())
    ]


def _rotated(peers: Sequence[Peer], number: int) -> list[Peer]:
    at = number % len(peers)
    return [*peers[at:], *peers[:at]]


def differences(stretches: Sequence[Stretch], variant: str, way: Way) -> Spread:
    """Return server CPU a certificate above that of the server as it is, round by round."""
    cost = {(s.server, s.round): s.cpu_us for s in stretches if s.case == way}
    rounds = {number for _, number in cost}
    return spread([cost[variant, n] - cost[AS_IT_IS, n] for n in rounds])


def as_data(plan: VariantsPlan, variants: Variants, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    return {
        "scenario": "variants",
        "machine": machine(),
        "plan": asdict(plan),
        "variants": {name: dict(environment) for name, environment in variants.items()},
        "figures": {
            f"{name}, {way}": asdict(differences(stretches, name, way))
            for name in variants
            for way in WAYS
        },
        "faults": faults(stretches),
        "stretches": [asdict(stretch) for stretch in stretches],
    }


def figures(variants: Variants, stretches: Sequence[Stretch]) -> Table:
    """Return what each variant costs, and how much more than the server as it is."""
    columns = ("variant", "warm us", "above as it is", "churn us", "above as it is")
    rows = [_row(stretches, name) for name in (AS_IT_IS, *variants)]
    return table("Server CPU a certificate, medians (low to high) over the rounds", columns, rows)


def _row(stretches: Sequence[Stretch], name: str) -> list[str]:
    cells = [name]
    for way in WAYS:
        ones = [s.cpu_us for s in stretches if s.case == way and s.server == name]
        more = differences(stretches, name, way)
        cells += [f"{spread(ones).median:,.0f}"]
        cells += [f"{more.median:+,.0f} ({more.low:+,.0f} to {more.high:+,.0f})"]
    return cells
