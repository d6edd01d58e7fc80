"""Figures as values, so that they can leave the process that counted them.

Turns what a registry shows into `Family` values, these into JSON and back, and
into Prometheus' text. How the figures of several processes become one is
decided in `merging`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure.

    Attributes:
        name: With the ending that its kind gives it (`_total`, `_bucket`).
        labels: Name and value of each, by name.
        value: The figure.
    """

    name: str
    labels: Labels
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All figures of one name.

    Attributes:
        name: Without an ending.
        text: What it tells.
        kind: `counter`, `gauge`, `histogram`, `info` or `untyped`.
        samples: The figures.
    """

    name: str
    text: str
    kind: str
    samples: tuple[Sample, ...]


def read_families(registry: CollectorRegistry) -> tuple[Family, ...]:
    """Take down all figures of a registry as they are now."""
    return tuple(_family(metric) for metric in registry.collect())


def _family(metric: Metric) -> Family:
    kind = "untyped" if metric.type == "unknown" else metric.type
    samples = (
        Sample(name=sample.name, labels=tuple(sorted(sample.labels.items())), value=sample.value)
        for sample in metric.samples
    )
    return Family(name=metric.name, text=metric.documentation, kind=kind, samples=tuple(samples))


def to_plain(families: Iterable[Family]) -> list[Any]:
    """Return families as lists, texts and numbers, for JSON."""
    return [
        [one.name, one.text, one.kind, [[s.name, s.labels, s.value] for s in one.samples]]
        for one in families
    ]


def from_plain(values: Iterable[Any]) -> tuple[Family, ...]:
    """Return the families that `to_plain` made lists of."""
    return tuple(
        Family(
            name=name,
            text=text,
            kind=kind,
            samples=tuple(
                Sample(name=s, labels=tuple((k, v) for k, v in labels), value=value)
                for s, labels, value in samples
            ),
        )
        for name, text, kind, samples in values
    )


class _Shown(Collector):
    """Shows families to the Prometheus client, which knows the text format."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, dict(sample.labels), sample.value)
            yield metric


def render_families(families: Sequence[Family]) -> bytes:
    """Return families in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shown(families))
    return generate_latest(registry)
