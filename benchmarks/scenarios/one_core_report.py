"""The one-core scenario's figures beside their goals, for a file and for the eye."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.table import Table

from benchmarks.load.audit import Audit
from benchmarks.load.report import Spread, machine, spread, table
from benchmarks.scenarios.material import KEY_TYPES
from benchmarks.scenarios.one_core import Results
from benchmarks.scenarios.sample import Sample

_MB: Final = 1e6
_GOAL_RATIOS: Final = {"rsa2048": 2.1, "p256": 2.5}
_GOAL_LONE_MS: Final = 2.0
_GOAL_IDLE_MB: Final = 150.0
_GOAL_START_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured value and the most it should be."""

    name: str
    value: float
    goal: float
    detail: str

    @property
    def met(self) -> bool:
        """Whether the value is within its goal."""
        return self.value <= self.goal


def ratios(samples: Sequence[Sample], case: str) -> Spread:
    """Return a case's server CPU in empty calls of the same round."""
    unit = {sample.round: sample.cpu_us for sample in samples if sample.case == "empty"}
    return spread([s.cpu_us / unit[s.round] for s in samples if s.case == case])


def figures(results: Results) -> list[Figure]:
    """Return what the goals speak of."""
    fsync = spread(results.lone.fsync_ms)
    costs = [(case, ratios(results.samples, case)) for case in KEY_TYPES]
    return [
        *(
            Figure(
                name=f"server CPU, {case} CSR, in empty calls",
                value=cost.median,
                goal=_GOAL_RATIOS[case],
                detail=str(cost),
            )
            for case, cost in costs
        ),
        Figure(
            name="lone call, median, ms",
            value=results.lone.latency.p50_ms,
            goal=_GOAL_LONE_MS + fsync.median,
            detail=f"goal: {_GOAL_LONE_MS:g} ms and one fsync of {fsync} ms; "
            f"after a rest of 20 ms: {results.lone.rested.p50_ms:.2f}",
        ),
        Figure(
            name="resident memory, idle, MB a process",
            value=max(results.idle_bytes) / _MB,
            goal=_GOAL_IDLE_MB,
            detail=f"after the load {max(results.loaded_bytes) / _MB:.0f} MB",
        ),
        Figure(
            name="start to ready, s",
            value=max(results.first_start_s, results.restart_s),
            goal=_GOAL_START_S,
            detail=f"first {results.first_start_s:.2f}, again {results.restart_s:.2f}",
        ),
    ]


def faults(results: Results) -> list[str]:
    """Return what went wrong with answers; empty if every caller got its own."""
    audits = [sample.audit for sample in results.samples] + [results.lone.audit]
    return [_fault(each) for each in audits if not each.clean]


def as_data(results: Results) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    verdicts = [asdict(figure) | {"met": figure.met} for figure in figures(results)]
    return {
        "scenario": "one-core",
        "machine": machine(),
        "figures": verdicts,
        "faults": faults(results),
        "results": asdict(results),
    }


def verdict_table(results: Results) -> Table:
    """Return the goals, what was reached, and whether that is enough."""
    rows = [
        (figure.name, f"{figure.goal:.2f}", f"{figure.value:.2f}", _word(figure), figure.detail)
        for figure in figures(results)
    ]
    columns = ("figure", "goal, at most", "measured", "met", "median (low to high)")
    return table("One process on one core", columns, rows)


def cost_table(results: Results) -> Table:
    """Return cost, rate and latency of each case: medians over the rounds."""
    cases = ("empty", *KEY_TYPES)
    rows = [_cost_row(case, [s for s in results.samples if s.case == case]) for case in cases]
    columns = ("call", "server us", "user", "system", "driver us", "per s", "p50 ms", "p99 ms")
    return table("Per call, medians (low to high) over the rounds", columns, rows)


def _cost_row(case: str, samples: Sequence[Sample]) -> tuple[str, ...]:
    columns = (
        [s.user_us for s in samples],
        [s.system_us for s in samples],
        [s.driver_us for s in samples],
        [s.per_s for s in samples],
    )
    return (
        case,
        str(spread([s.cpu_us for s in samples])),
        *(f"{spread(values).median:.0f}" for values in columns),
        f"{spread([s.latency.p50_ms for s in samples]).median:.2f}",
        f"{spread([s.latency.p99_ms for s in samples]).median:.2f}",
    )


def _fault(found: Audit) -> str:
    return f"statuses {found.statuses}, texts {found.messages}, wrong {list(found.wrong[:3])}"


def _word(figure: Figure) -> str:
    return "[green]yes[/green]" if figure.met else "[red]no[/red]"
