"""E: overload. Twice what the server can do, for half a minute; then back to half of it.

A closed population first: istio-agents that ask until they have their certificate, each
with five attempts and then a new connection. Then the same step in open loop, where
nobody waits and nobody comes back. What counts is what gets through meanwhile, how soon
all is well afterwards, and how long the unluckiest identity has waited.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.load.ledger import Ledger
from benchmarks.load.loads import BUCKET_S, Arrivals, Population
from benchmarks.scenarios.churn import find_capacity
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario

_OVERLOAD_S: Final = 30.0
_CALIBRATION_S: Final = 10.0
_CALM: Final = 0.5
_STEP: Final = 2.0
_THINK_S: Final = 2.0
_DRAIN_S: Final = 20.0
_RAMP_S: Final = 2.0
"""Left out of goodput at the step's begin: what was begun before is still under way."""

_NORMAL_MS: Final = 100.0
_NORMAL_FOR_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Calm, overload, calm: when each ends.

    Args:
        calm_s: Length of the first and least length of the last.
        overload_s: Length of the step.
    """

    calm_s: float
    overload_s: float

    @property
    def begins_s(self) -> float:
        """When the overload begins."""
        return self.calm_s

    @property
    def ends_s(self) -> float:
        """When the overload ends."""
        return self.calm_s + self.overload_s

    def steps(self, calm: float, step: float) -> tuple[tuple[float, float], ...]:
        """Return what is offered, with how long."""
        return ((calm, self.calm_s), (step, self.overload_s), (calm, 2 * self.calm_s))


def run(lab: Lab) -> None:
    """Measure."""
    overload_s = lab.settings.seconds or _OVERLOAD_S
    phases = Phases(calm_s=min(8.0, overload_s), overload_s=overload_s)
    with lab.server():
        capacity = lab.settings.rate or find_capacity(lab, min(_CALIBRATION_S, overload_s))
        lab.figure("capacity, closed loop", capacity, "certificates/s")
        _agents(lab, capacity, phases)
        _open(lab, capacity, phases)
        lab.check_inventory(undelivered_allowed=True)


def _agents(lab: Lab, capacity: float, phases: Phases) -> None:
    places = capacity * _THINK_S
    steps = phases.steps(_CALM * places, _STEP * places)
    pace = Population(
        steps=tuple((round(number), seconds) for number, seconds in steps),
        think_s=_THINK_S,
        drain_s=_DRAIN_S,
    )
    calls = lab.calls("overload", round(capacity * (pace.seconds + 5)))
    books = lab.measure("agents", [lab.load("agents", calls, pace)]).first
    goodput = _goodput(books, phases)
    lab.figure_at_least("agents: goodput at 2x, of capacity", 100 * goodput / capacity, "%", 95)
    lab.figure("agents: back to normal", back_to_normal_s(books, phases.ends_s), "s", at_most=3)
    lab.figure("agents: longest wait of an identity", books.longest_ns / 1e9, "s")
    unended = books.ended - books.right
    detail = f"{unended} of {books.ended} had no certificate {_DRAIN_S:.0f} s after the end"
    lab.check("agents: nobody waits for ever", detail, holds=not unended)


def _open(lab: Lab, capacity: float, phases: Phases) -> None:
    pace = Arrivals(steps=phases.steps(_CALM * capacity, _STEP * capacity))
    calls = lab.calls("overload-open", pace.count)
    books = lab.measure("open loop", [lab.load("pods", calls, pace)]).first
    goodput = _goodput(books, phases)
    lab.figure("open loop: goodput at 2x, of capacity", 100 * goodput / capacity, "%")
    lab.figure("open loop: back to normal", back_to_normal_s(books, phases.ends_s), "s")
    lab.figure("open loop: p99 of the admitted", books.latencies.at(99), "ms")
    late_ms = books.as_data()["late_ms"]["99"]
    lab.figure("open loop: the driver was late, p99", late_ms, "ms")


def _goodput(books: Ledger, phases: Phases) -> float:
    """Return certificates per second while the overload was on."""
    begins_s = phases.begins_s + min(_RAMP_S, phases.overload_s / 2)
    granted = [
        slot["granted"] for slot in books.timeline() if begins_s <= slot["at_s"] < phases.ends_s
    ]
    return sum(granted) / (len(granted) * BUCKET_S) if granted else 0.0


def back_to_normal_s(books: Ledger, ends_s: float) -> float:
    """Return how long after the overload's end new callers were served well again.

    Well is: for a second nobody was refused, and half of those who came had their
    certificate within 100 ms. Those who came before may still wait: they count by how
    long the unluckiest waited.

    Returns:
        Seconds; all that was seen of the time after the end if it never came to that.
    """
    slots = [slot for slot in books.timeline() if slot["at_s"] >= ends_s]
    length = round(_NORMAL_FOR_S / BUCKET_S)
    for at, slot in enumerate(slots):
        window = slots[at : at + length]
        if len(window) == length and _is_normal(window):
            return slot["at_s"] - ends_s
    return len(slots) * BUCKET_S


def _is_normal(window: Sequence[dict[str, float]]) -> bool:
    return all(not slot["refused"] and slot["p50_ms"] <= _NORMAL_MS for slot in window)


OVERLOAD: Final = Scenario(
    name="overload",
    title="E: overload, a step to twice the capacity",
    help="Twice what the server can do: agents with Istio's retries, then in open loop.",
    run=run,
    short_s=6.0,
)
