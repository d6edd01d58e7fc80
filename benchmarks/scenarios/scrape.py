"""What a server says of itself: its metrics before, while and after a load was on.

Reads Prometheus' text format and knows no metric by name, so that it serves for any
server; which histogram is drawn is the report's business.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S: Final = 5.0
_OWN: Final = ("meshsigner_", "citadel_")

Samples = dict[str, dict[str, float]]
"""Values by metric and labels, a histogram's by `le`, `sum` and `count`."""


class Scrape:
    """The metrics of a server over one load.

    Args:
        url: Says where they are now; empty: there are none.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._began = time.perf_counter()
        self._before = self._read()
        self._gauges: dict[str, list[tuple[float, float]]] = {}

    def look(self) -> None:
        """Take the gauges once."""
        at_s = round(time.perf_counter() - self._began, 2)
        for name, values in self._read().get("gauge", {}).items():
            self._gauges.setdefault(name, []).append((at_s, values))

    def as_data(self) -> dict[str, Any]:
        """Return what has changed since the first look, and the gauges over time."""
        after = self._read()
        return {
            "counters": _changes(self._before.get("counter", {}), after.get("counter", {})),
            "histograms": _histograms(
                _changes(self._before.get("histogram", {}), after.get("histogram", {}))
            ),
            "gauges": self._gauges,
        }

    def _read(self) -> Samples:
        """Return all values by type; nothing if the server does not answer."""
        url = self._url()
        if not url:
            return {}
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                text = answer.read().decode()
        except (OSError, urllib.error.URLError):
            return {}
        return _parse(text)


def _parse(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith(_OWN):
            continue
        values = found.setdefault(family.type, {})
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                values[sample.name + _labels(sample.labels)] = sample.value
    return found


def _labels(labels: Mapping[str, str]) -> str:
    text = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{{text}}}" if text else ""


def _changes(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    changes = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return {name: change for name, change in changes.items() if change}


def _histograms(changes: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return each histogram's counts by upper bound, its sum and its count; labels added up."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        family, _, labels = name.partition("{")
        if family.endswith("_bucket"):
            bound = labels.rpartition('le="')[2].partition('"')[0]
            buckets = _histogram(found, family.removesuffix("_bucket"))["buckets"]
            buckets[bound] = buckets.get(bound, 0.0) + value
        elif family.endswith(("_sum", "_count")):
            kind = family.rpartition("_")[2]
            _histogram(found, family.removesuffix(f"_{kind}"))[kind] += value
    return found


def _histogram(found: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return found.setdefault(name, {"buckets": {}, "sum": 0.0, "count": 0.0})
