"""How the figures of several processes become the figures of one server.

Pure. What is counted is added up, and what a process counted before it ended
stays in the sum: a sum that fell would look like a restart of the whole, and
`rate()` would count everything once more. A gauge has a rule of its own, by
name; a test fails for a gauge without one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from meshsigner.observe import names
from meshsigner.observe.families import Family, Labels, Sample

Rule = Callable[[float, float], float]


def _add(one: float, other: float) -> float:
    return one + other


# Istio's counters come as `untyped`, under names that a counter cannot have.
_COUNTED: Final = frozenset({"counter", "histogram", "untyped"})

GAUGES: Final[Mapping[str, Rule]] = {
    # what is under way: of all workers together
    names.CALLS_IN_FLIGHT: _add,
    names.ORDERS_QUEUED: _add,
    names.REQUESTS_PARKED: _add,
    # ends of validity: the first to come, whichever worker still has it
    # As unusable as the worst of the workers sees it; what waits and what may start adds up.
    names.BACKEND_USABLE: min,
    names.BACKEND_WAITING: _add,
    names.BACKEND_RATE: _add,
    names.BACKEND_INTENTS: _add,
    names.SERVING_CERTIFICATE_EXPIRY: min,
    names.INTERMEDIATE_EXPIRY: min,
    names.ISTIO_ROOT_EXPIRY_TIMESTAMP: min,
    names.ISTIO_ROOT_EXPIRY_SECONDS: min,
    names.ISTIO_CHAIN_EXPIRY_TIMESTAMP: min,
    names.ISTIO_CHAIN_EXPIRY_SECONDS: min,
    # the same in each
    f"{names.BUILD}": max,
    "python_info": max,
    # of the kernel: what they use together, when the first began, the least that one may have
    "process_virtual_memory_bytes": _add,
    "process_resident_memory_bytes": _add,
    "process_open_fds": _add,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}


def rule_of(family: Family) -> Rule:
    """Return how two figures of a family become one.

    A gauge that nobody knows, of a newer library, shows the highest.
    """
    return _add if family.kind in _COUNTED else GAUGES.get(family.name, max)


def merge(parts: Iterable[Sequence[Family]]) -> tuple[Family, ...]:
    """Make one of the figures of several processes.

    Args:
        parts: The families of each.
    """
    merged: dict[str, Family] = {}
    for family in (family for part in parts for family in part):
        known = merged.get(family.name)
        merged[family.name] = family if known is None else _join(known, family)
    return tuple(merged.values())


def _join(one: Family, other: Family) -> Family:
    rule = rule_of(one)
    values: dict[tuple[str, Labels], float] = {(s.name, s.labels): s.value for s in one.samples}
    for sample in other.samples:
        key = (sample.name, sample.labels)
        values[key] = rule(values[key], sample.value) if key in values else sample.value
    samples = (Sample(name=n, labels=labels, value=v) for (n, labels), v in values.items())
    return replace(one, samples=tuple(samples))


def counted(families: Iterable[Family]) -> tuple[Family, ...]:
    """Return what was counted, which outlives its process."""
    return tuple(family for family in families if family.kind in _COUNTED)


def by_worker(number: int, families: Iterable[Family]) -> tuple[Family, ...]:
    """Return the few figures of a worker that are worth seeing apart.

    Args:
        number: Its place, the value of the label `worker`.
        families: All of its figures.
    """
    shown = {family.name: family for family in families}
    return tuple(
        _labelled(shown[name], new_name, number)
        for name, new_name in names.BY_WORKER.items()
        if name in shown
    )


def _labelled(family: Family, name: str, number: int) -> Family:
    samples = (
        replace(s, name=s.name.replace(family.name, name), labels=(("worker", str(number)),))
        for s in family.samples
    )
    return replace(family, name=name, text=f"{family.text} By worker.", samples=tuple(samples))
