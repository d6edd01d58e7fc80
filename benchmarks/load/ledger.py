"""The books of one load: what all of its drivers brought back, added up and judged.

Reads the outcomes one by one, so that a run of a million calls needs little memory.
Latency counts from the planned time, of certificates only: a quick refusal is no fast
answer. Percentiles come from all drivers' values, never from an average of theirs.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # has no stubs

from benchmarks.load.audit import Auditor, name_status
from benchmarks.load.calls import NO_ANSWER
from benchmarks.load.headers import OK
from benchmarks.load.loads import BUCKET_NS, BUCKET_S, Load
from benchmarks.load.records import Result
from benchmarks.load.shift import Report

PERCENTILES: Final = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)

_NS_PER_US: Final = 1_000
_LONGEST_US: Final = 3_600_000_000
_DIGITS: Final = 3
_FAULTS_TOLD: Final = 20


class Latencies:
    """A histogram of times in ns, told in ms."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_US, _DIGITS)

    def add(self, value_ns: int) -> None:
        """Count a time."""
        self._histogram.record_value(min(max(value_ns // _NS_PER_US, 1), _LONGEST_US))

    def at(self, percentile: float) -> float:
        """Return the value in ms that `percentile` % do not exceed; 0 without values."""
        if not self._histogram.get_total_count():
            return 0.0
        value: int = self._histogram.get_value_at_percentile(percentile)
        return value / 1e3

    def table(self) -> dict[str, float]:
        """Return the percentiles of a report."""
        return {f"{percentile:g}": self.at(percentile) for percentile in PERCENTILES}


@dataclass(slots=True)
class Bucket:
    """What was planned, granted and refused in a quarter of a second, and how long it took."""

    planned: int = 0
    granted: int = 0
    refused: int = 0
    latencies_ns: list[int] = field(default_factory=list)


class Ledger:
    """Adds up a load.

    Args:
        load: The load, whose calls are read again.
        start_ns: When it began.
        auditor: Judges certificates; shared by all loads of a run, so that serials are too.
    """

    def __init__(self, load: Load, start_ns: int, auditor: Auditor) -> None:
        self.load = load
        self.start_ns = start_ns
        self._calls = list(load.calls.calls())
        self._auditor = auditor
        self._buckets: dict[int, Bucket] = {}
        self._lateness = Latencies()
        self._attempts_each: Counter[int] = Counter()
        self.latencies = Latencies()
        self.statuses: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()
        self.messages: Counter[str] = Counter()
        self.faults: list[str] = []
        self.faulty = 0
        self.right = 0
        self.unexpected = 0
        self.longest_ns = 0
        self.last_ns = start_ns
        self.driver_cpu_s = 0.0
        self.lost = 0
        self.ran_dry = False

    def take(self, results: Iterable[Result]) -> None:
        """Take in what one driver wrote."""
        for result in results:
            self._take_one(result)

    def hear(self, report: Report) -> None:
        """Take in what one driver said."""
        for slot, status, number in report.attempts:
            self.attempts[status] += number
            bucket = self._bucket(slot)
            if status == OK:
                bucket.granted += number
            else:
                bucket.refused += number
        self.messages.update(report.messages)
        self.driver_cpu_s += report.cpu_s
        self.lost += report.lost
        self.ran_dry |= report.ran_dry

    @property
    def ended(self) -> int:
        """How many identities have come to an end, good or bad."""
        return self.statuses.total()

    @property
    def seconds(self) -> float:
        """From the start to the last answer."""
        return (self.last_ns - self.start_ns) / 1e9

    def timeline(self) -> list[dict[str, float]]:
        """Return the quarters of seconds in order; times are s from the start."""
        if not self._buckets:
            return []
        first, last = min(self._buckets), max(self._buckets)
        return [self._slot(number) for number in range(min(first, 0), last + 1)]

    def as_data(self) -> dict[str, Any]:
        """Return all that is known, for a file."""
        return {
            "name": self.load.name,
            "pace": {"kind": type(self.load.pace).__name__, **asdict(self.load.pace)},
            "way": {"kind": type(self.load.way).__name__, **asdict(self.load.way)},
            "processes": self.load.processes,
            "certificates": self.right,
            "ended": self.ended,
            "unexpected": self.unexpected,
            "statuses": _by_name(self.statuses),
            "attempts": _by_name(self.attempts),
            "attempts_each": {str(n): count for n, count in sorted(self._attempts_each.items())},
            "messages": dict(self.messages.most_common(20)),
            "faulty": self.faulty,
            "faults": self.faults,
            "latency_ms": self.latencies.table(),
            "longest_wait_s": self.longest_ns / 1e9,
            "late_ms": {"50": self._lateness.at(50), "99": self._lateness.at(99)},
            "driver_cpu_s": self.driver_cpu_s,
            "lost_connections": self.lost,
            "ran_dry": self.ran_dry,
            "seconds": self.seconds,
            "timeline": self.timeline(),
        }

    def _take_one(self, result: Result) -> None:
        answer, call = result.answer, self._calls[result.position]
        self.statuses[answer.status] += 1
        self._attempts_each[result.attempts] += 1
        self._lateness.add(result.sent_ns - result.planned_ns)
        self._bucket((result.planned_ns - self.start_ns) // BUCKET_NS).planned += 1
        if answer.status != NO_ANSWER:
            self.last_ns = max(self.last_ns, answer.at_ns)
        if answer.status != call.wanted:
            self.unexpected += 1
        if answer.status == OK:
            self._granted(result)
        elif call.wanted == OK:
            self.longest_ns = max(self.longest_ns, result.latency_ns)

    def _granted(self, result: Result) -> None:
        self.latencies.add(result.latency_ns)
        self.longest_ns = max(self.longest_ns, result.latency_ns)
        slot = (result.planned_ns - self.start_ns) // BUCKET_NS
        self._bucket(slot).latencies_ns.append(result.latency_ns)
        call = self._calls[result.position]
        fault = self._auditor.fault(call, result.answer)
        if not fault:
            self.right += 1
            return
        self.faulty += 1
        if len(self.faults) < _FAULTS_TOLD:
            self.faults.append(f"{call.uri_san}: {fault}")

    def _bucket(self, slot: int) -> Bucket:
        return self._buckets.setdefault(slot, Bucket())

    def _slot(self, number: int) -> dict[str, float]:
        bucket = self._buckets.get(number, Bucket())
        times = sorted(bucket.latencies_ns)
        return {
            "at_s": number * BUCKET_S,
            "planned": bucket.planned,
            "granted": bucket.granted,
            "refused": bucket.refused,
            "p50_ms": _nth(times, 0.5) / 1e6,
            "p99_ms": _nth(times, 0.99) / 1e6,
        }


def _nth(ordered: Sequence[int], share: float) -> int:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0


def _by_name(statuses: Counter[int]) -> dict[str, int]:
    return {name_status(status): number for status, number in statuses.most_common()}
