"""D: an idle herd, and churn beside it. Sidecars keep their connection and say nothing.

The server closes nothing by itself here, so that what a connection costs can be seen:
memory before, with the herd, at the end of its stay, and after it has gone.
"""

import resource
import time
from typing import Final

from benchmarks.load.loads import Arrivals, Herd
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario

_SECONDS: Final = 30.0
_CONNECTIONS: Final = 10_000
_CHURN_PER_S: Final = 50.0
_SPARE_FILES: Final = 4_096
_SETTLE_S: Final = 5.0
_KEPT: Final = "1h"


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    connections = settings.connections or _CONNECTIONS
    seconds, rate = settings.seconds or _SECONDS, settings.rate or _CHURN_PER_S
    allow_open_files(connections + _SPARE_FILES)
    limits = {"connection_idle": _KEPT, "connection_age": _KEPT, "connections": 2 * connections}
    with lab.server(limits=limits):
        lab.warm_up()
        pace = Arrivals(steps=((rate, seconds),))
        before = Arrivals(steps=((rate, min(seconds, _SECONDS)),))
        calls = lab.calls("herd", pace.count)
        first = calls.part(0, before.count)
        alone = lab.measure("churn alone", [lab.load("pods", first, before)])
        before_mib = lab.memory_mib()
        herd = lab.load("herd", calls.part(0, 0), Herd(connections=connections))
        beside = lab.measure("beside the herd", [lab.load("pods", calls, pace), herd])
        _tell(lab, before_mib, beside.data["server"]["memory_mib"], connections)
        lab.check_inventory()
    for name, measured in (("alone", alone), ("beside the herd", beside)):
        lab.figure(f"churn {name}, p50", measured.first.latencies.at(50), "ms")
        lab.figure(f"churn {name}, p99", measured.first.latencies.at(99), "ms")
    lost = beside.ledgers[1].lost
    lab.check("the herd is left alone", f"{lost} connections were closed", holds=not lost)


def allow_open_files(number: int) -> None:
    """Let this process, and those that it starts, have so many files open.

    Raises:
        ValueError: The system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(hard, number)))


def _tell(
    lab: Lab, before_mib: float, over_time: list[tuple[float, float]], connections: int
) -> None:
    """Note the memory of each phase; the herd has just gone."""
    gone_mib = lab.memory_mib()
    time.sleep(min(_SETTLE_S, lab.settings.seconds or _SETTLE_S))
    settled_mib = lab.memory_mib()
    opened_mib, held_mib = over_time[0][1], over_time[-1][1]
    lab.figure("memory before", before_mib, "MiB")
    lab.figure("memory with the herd, at first", opened_mib, "MiB")
    lab.figure("memory with the herd, at the end", held_mib, "MiB")
    goal_mib = 500 * 1e6 / 2**20 * connections / _CONNECTIONS
    lab.figure("the herd's memory", held_mib - before_mib, "MiB", at_most=round(goal_mib))
    each_kib = 1024 * (held_mib - before_mib) / connections
    lab.figure("memory of a connection", each_kib, "KiB")
    lab.figure("memory just after the herd has gone", gone_mib, "MiB")
    lab.figure("memory some seconds later", settled_mib, "MiB")
    given_back = 100 * (held_mib - settled_mib) / max(held_mib - before_mib, 1)
    lab.figure("given back of the herd's memory", given_back, "%")


HERD: Final = Scenario(
    name="herd",
    title="D: an idle herd of connections, and churn beside it",
    help="Thousands of idle connections, held for --seconds, and churn beside them.",
    run=run,
    connections=_CONNECTIONS,
    short_connections=1_000,
)
