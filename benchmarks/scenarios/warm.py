"""A: warm flood. Connections that stand, calls under way all the time: the most a server does.

Shows capacity and CPU per certificate without handshakes, then latency in open loop at
the rate that was asked for.
"""

from typing import Final

from benchmarks.load.loads import Arrivals, Closed, Warm
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario

_SECONDS: Final = 15.0
_CONNECTIONS: Final = 4
_IN_FLIGHT: Final = 16
_PER_WORKER_S: Final = 1_600
"""Calls prepared for a second of a worker; a faster one is done earlier."""


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    seconds = settings.seconds or _SECONDS
    way = Warm(connections=(settings.connections or _CONNECTIONS) * settings.drivers)
    total = settings.total or round(seconds * _PER_WORKER_S * settings.workers)
    calls = lab.calls("warm", total)
    in_flight = _IN_FLIGHT * settings.workers
    with lab.server():
        lab.warm_up(way)
        pace = Closed(in_flight=in_flight, seconds=None if settings.total else seconds)
        flood = lab.measure("flood", [lab.load("calls", calls, pace, way)])
        lab.figure("throughput, closed loop", flood.per_s, "certificates/s")
        lab.figure("server CPU per certificate", flood.data["server"]["cpu_us"], "us")
        if settings.rate:
            steady = Arrivals(steps=((settings.rate, seconds),))
            more = lab.calls("warm-open", steady.count)
            opened = lab.measure("open loop", [lab.load("calls", more, steady, way)])
            lab.figure("open loop, p50", opened.first.latencies.at(50), "ms")
            lab.figure("open loop, p99", opened.first.latencies.at(99), "ms")
        lab.check_inventory()


WARM: Final = Scenario(
    name="warm",
    title="A: warm flood",
    help="Calls over connections that stand: the most that the server can do.",
    run=run,
)
