"""The comparison's figures: for a file, for the eye, and for a page in markdown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.table import Table

from benchmarks.load.report import Spread, machine, spread, table
from benchmarks.peers.side_by_side import DEFAULTS, Case, PeersPlan, cases
from benchmarks.peers.stretch import Stretch

GOALS: Final = {"p256": 1.2, "rsa2048": 0.8, DEFAULTS: 0.4}
"""Most of Istio's CPU that a certificate may take, by the CA key."""

_COLUMNS: Final = (
    "case",
    "meshsigner us",
    "Istio us",
    "ratio",
    "goal",
    "meshsigner/s",
    "Istio/s",
    "p50 ms",
    "Istio p50 ms",
    "supervisor us",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One case's figures, over all rounds.

    Args:
        case: Which.
        ours_us: Server CPU a certificate, meshsigner.
        theirs_us: The same of Istio's CA.
        ratio: The first in parts of the second, round by round.
        supervisor_us: What meshsigner's supervisor took of it.
        ours_per_s: Throughput, median.
        theirs_per_s: The same of Istio's CA.
        ours_p50_ms: What callers waited, median.
        theirs_p50_ms: The same at Istio's CA.
    """

    case: Case
    ours_us: Spread
    theirs_us: Spread
    ratio: Spread
    supervisor_us: Spread
    ours_per_s: float
    theirs_per_s: float
    ours_p50_ms: float
    theirs_p50_ms: float

    @property
    def goal(self) -> float:
        """The most that the ratio should be."""
        return GOALS[self.case.ca]

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.ratio.median <= self.goal


def compare(stretches: Sequence[Stretch]) -> list[Comparison]:
    """Return every case's figures."""
    return [_comparison(case, stretches) for case in cases()]


def _comparison(case: Case, stretches: Sequence[Stretch]) -> Comparison:
    mine = {s.round: s for s in stretches if s.case == str(case) and s.server == "meshsigner"}
    other = {s.round: s for s in stretches if s.case == str(case) and s.server == "istio"}
    return Comparison(
        case=case,
        ours_us=spread([s.cpu_us for s in mine.values()]),
        theirs_us=spread([s.cpu_us for s in other.values()]),
        ratio=spread([s.cpu_us / other[number].cpu_us for number, s in mine.items()]),
        supervisor_us=spread([s.supervisor_us for s in mine.values()]),
        ours_per_s=spread([s.per_s for s in mine.values()]).median,
        theirs_per_s=spread([s.per_s for s in other.values()]).median,
        ours_p50_ms=spread([s.latency.p50_ms for s in mine.values()]).median,
        theirs_p50_ms=spread([s.latency.p50_ms for s in other.values()]).median,
    )


def faults(stretches: Sequence[Stretch]) -> list[str]:
    """Return what went wrong with answers; empty if every caller got its own certificate."""
    return [
        f"{s.server}, {s.case}, round {s.round}: {s.audit.statuses} {s.audit.messages}"
        f" {list(s.audit.wrong[:3])}"
        for s in stretches
        if not s.audit.clean
    ]


def as_data(plan: PeersPlan, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    found = compare(stretches)
    return {
        "scenario": "peers",
        "machine": machine(),
        "plan": asdict(plan),
        "figures": [asdict(one) | {"goal": one.goal, "met": one.met} for one in found],
        "faults": faults(stretches),
        "stretches": [asdict(stretch) for stretch in stretches],
    }


def rich_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the comparison for the eye."""
    rows = [_row(one, "[green]{}[/green]" if one.met else "[red]{}[/red]") for one in comparisons]
    return table("Server CPU a certificate, medians (low to high) over the rounds", _COLUMNS, rows)


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the comparison for docs/performance.md."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    rows = [_row(one, "{}" if one.met else "**{}**") for one in comparisons]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def _row(one: Comparison, mark: str) -> tuple[str, ...]:
    return (
        str(one.case),
        _whole(one.ours_us),
        _whole(one.theirs_us),
        mark.format(f"{one.ratio.median:.2f} ({one.ratio.low:.2f} to {one.ratio.high:.2f})"),
        f"{one.goal}",
        f"{one.ours_per_s:,.0f}",
        f"{one.theirs_per_s:,.0f}",
        f"{one.ours_p50_ms:.1f}",
        f"{one.theirs_p50_ms:.1f}",
        f"{one.supervisor_us.median:.0f}",
    )


def _whole(values: Spread) -> str:
    return f"{values.median:,.0f} ({values.low:,.0f} to {values.high:,.0f})"
