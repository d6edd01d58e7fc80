"""Figures out of outcomes, and where they go: a JSON file, and a table for the eye."""

import json
import os
import platform
import ssl
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # has no stubs
from rich.table import Table

from benchmarks.load.calls import Outcome

_NS_PER_US: Final = 1_000
_LONGEST_US: Final = 600_000_000
_DIGITS: Final = 3
_TRIES: Final = 5
_PIECE, _KEYS = 10_000, 100  # a few milliseconds
_PACKAGES: Final = ("grpcio", "cryptography", "uvloop", "protobuf", "structlog")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles of a run's latencies in ms, from the planned sending on."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Several rounds' values of one figure."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the median, with the extremes behind it."""
        return f"{self.median:.4g} ({self.low:.4g} to {self.high:.4g})"


def latency(outcomes: Iterable[Outcome]) -> Latency:
    """Return the percentiles of all outcomes, whatever their status."""
    histogram = HdrHistogram(1, _LONGEST_US, _DIGITS)
    for outcome in outcomes:
        histogram.record_value(min(max(outcome.latency_ns // _NS_PER_US, 1), _LONGEST_US))
    return Latency(
        p50_ms=histogram.get_value_at_percentile(50) / 1e3,
        p90_ms=histogram.get_value_at_percentile(90) / 1e3,
        p99_ms=histogram.get_value_at_percentile(99) / 1e3,
        p999_ms=histogram.get_value_at_percentile(99.9) / 1e3,
        max_ms=histogram.get_max_value() / 1e3,
    )


def spread(values: Sequence[float]) -> Spread:
    """Return median and extremes of at least one value."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_pace_us": python_pace_us(),
        "driver_openssl": ssl.OPENSSL_VERSION,
        "packages": {name: version(name) for name in _PACKAGES},
        "load_average": os.getloadavg(),
    }


def python_pace_us() -> float:
    """Return the CPU time of a fixed piece of plain Python here, the best of five tries, µs.

    The same version of Python differs by a third, depending on whether it was built with profiles
    and link-time optimisation: figures of two runs compare only where this is alike.
    """
    tries = []
    for _ in range(_TRIES):
        begun_ns = time.thread_time_ns()
        _fixed_piece()
        tries.append(time.thread_time_ns() - begun_ns)
    return min(tries) / _NS_PER_US


def _fixed_piece() -> dict[int, tuple[str, bytes]]:
    held: dict[int, tuple[str, bytes]] = {}
    for number in range(_PIECE):
        text = str(number)
        held[number % _KEYS] = (text, text.encode() + b".")
    return held


def save(directory: Path, scenario: str, data: dict[str, Any]) -> Path:
    """Write a run's results and return the file, named after scenario and time (UTC)."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{scenario}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(data, indent=2) + "\n")
    return file


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table: the first column is the row's name, the others are figures."""
    result = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        result.add_column(column, justify="right" if number else "left")
    for row in rows:
        result.add_row(*row)
    return result


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
