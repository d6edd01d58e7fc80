"""Churn for a long time, while workers are killed, the CA is changed and the store stalls.

Agents retry as Istio's do. At the end there must be no certificate without its row, none
that is another's, nobody who never got one, and memory must be where it was.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.load.loads import CallSlice, Population
from benchmarks.scenarios.faults import kill_youngest_worker, stall_store, workers
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.processes import resident_of
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.stretch import Event

_SECONDS: Final = 1_200.0
_ROUND_S: Final = 60.0
_SHORTEST_ROUND_S: Final = 15.0
_RATE: Final = 120.0
_THINK_S: Final = 1.0
_DRAIN_S: Final = 20.0
_STALL_S: Final = 3.0
_MATERIAL_ROUNDS: Final = 4
"""Identities of so many rounds are prepared; later rounds renew them."""

_SETTLED: Final = 0.25
"""The part of a soak in which memory may still grow: caches fill, heaps find their size."""

_GROWTH: Final = 1.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """How a soak is cut up, so that no stretch grows too large.

    Args:
        number: How many stretches.
        seconds: Length of each.
    """

    number: int
    seconds: float

    @classmethod
    def of(cls, total_s: float) -> "Rounds":
        """Cut a time up: at least three stretches, of a minute if there is time enough."""
        seconds = min(_ROUND_S, max(total_s / 3, _SHORTEST_ROUND_S))
        return cls(number=max(round(total_s / seconds), 1), seconds=seconds)


def run(lab: Lab) -> None:
    """Measure."""
    rounds = Rounds.of(lab.settings.seconds or _SECONDS)
    rate = lab.settings.rate or _RATE
    pace = Population(
        steps=((round(rate * _THINK_S), rounds.seconds),), think_s=_THINK_S, drain_s=_DRAIN_S
    )
    size = round(rate * rounds.seconds * 1.3)
    calls = lab.calls("soak", size * min(rounds.number, _MATERIAL_ROUNDS))
    memory = []
    with lab.server():
        lab.warm_up()
        survivor = workers(lab.running)[0]
        for number in range(rounds.number):
            start = size * (number % (calls.count // size))
            _round(lab, f"round {number + 1}", pace, calls.part(start, size))
            memory.append(resident_of(survivor) / 2**20)
        _judge_memory(lab, memory)
        lab.check_inventory(undelivered_allowed=True)


def _round(lab: Lab, name: str, pace: Population, calls: CallSlice) -> None:
    """Run one stretch with its faults."""
    load = lab.load("agents", calls, pace)
    books = lab.measure(name, [load], _faults(lab, pace.seconds)).first
    unended = books.ended - books.right
    lab.check(f"{name}: everybody got a certificate", f"{unended} did not", holds=not unended)
    lab.figure(f"{name}: longest wait", books.longest_ns / 1e9, "s")


def _faults(lab: Lab, seconds: float) -> list[Event]:
    directory = lab.settings.work / "server"
    kill = partial(kill_youngest_worker, lab.running)
    stall = partial(stall_store, directory, min(_STALL_S, seconds / 8))
    return [
        Event(at_s=seconds * 0.2, name="worker killed", act=kill),
        Event(at_s=seconds * 0.5, name="CA changed", act=lab.mesh.rotate),
        Event(at_s=seconds * 0.7, name="store stalls", act=stall),
    ]


def _judge_memory(lab: Lab, memory_mib: list[float]) -> None:
    """Compare the memory of a worker that nobody killed, late with not so late."""
    settled = memory_mib[int(len(memory_mib) * _SETTLED)]
    last = memory_mib[-1]
    lab.figure("a surviving worker's memory, settled", settled, "MiB")
    lab.figure("a surviving worker's memory, at the end", last, "MiB")
    detail = "MiB after each round: " + ", ".join(f"{mib:.0f}" for mib in memory_mib)
    lab.check("memory is flat", detail, holds=last <= settled * _GROWTH)


SOAK: Final = Scenario(
    name="soak",
    title="Soak: churn with worker kills, CA changes and store stalls",
    help="Churn with worker kills, CA changes and store stalls; 20 minutes by default.",
    run=run,
    short_s=45.0,
    workers=2,
)
