"""B: churn. Every certificate over a new TLS connection, as every new pod asks for its first.

Capacity and CPU per certificate in closed loop, then latency in open loop at 50/s and at
80 % of the capacity that was found, or at the rate that was asked for.
"""

from typing import Final

from benchmarks.load.loads import Arrivals, Closed
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario

_SECONDS: Final = 15.0
_IN_FLIGHT: Final = 24
_PER_WORKER_S: Final = 1_000
"""Calls prepared for a second of a worker; a faster one is done earlier."""

_CALM_PER_S: Final = 50.0
_SHARE: Final = 0.8


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    seconds = settings.seconds or _SECONDS
    with lab.server():
        capacity = find_capacity(lab, seconds, settings.total)
        lab.figure("throughput, closed loop", capacity, "certificates/s")
        cpu_us = lab.stretches[-1].data["server"]["cpu_us"]
        lab.figure("server CPU per certificate", cpu_us, "us", at_most=800)
        if settings.rate:
            _open_loop(lab, f"at {settings.rate:g}/s", settings.rate, seconds)
        elif not settings.total:
            _open_loop(lab, "at 50/s", _CALM_PER_S, seconds, p50_ms=3)
            _open_loop(lab, "at 80 %", _SHARE * capacity, seconds, p99_ms=50)
        lab.check_inventory()


def find_capacity(lab: Lab, seconds: float, total: int | None = None) -> float:
    """Warm the server up, then return what it does in closed loop, certificates a second.

    Args:
        lab: With a server.
        seconds: How long to measure.
        total: How many certificates instead.
    """
    in_flight = _IN_FLIGHT * lab.settings.workers
    count = total or round(seconds * _PER_WORKER_S * lab.settings.workers)
    calls = lab.calls("churn", count)
    lab.warm_up(in_flight=_IN_FLIGHT)
    pace = Closed(in_flight=in_flight, seconds=None if total else seconds)
    return lab.measure("closed loop", [lab.load("pods", calls, pace)]).per_s


def _open_loop(
    lab: Lab,
    name: str,
    rate: float,
    seconds: float,
    *,
    p50_ms: float | None = None,
    p99_ms: float | None = None,
) -> None:
    pace = Arrivals(steps=((rate, seconds),))
    calls = lab.calls("churn-open", pace.count)
    measured = lab.measure(f"open loop {name}", [lab.load("pods", calls, pace)])
    latencies = measured.first.latencies
    lab.figure(f"open loop {name}, p50", latencies.at(50), "ms", at_most=p50_ms)
    lab.figure(f"open loop {name}, p99", latencies.at(99), "ms", at_most=p99_ms)


CHURN: Final = Scenario(
    name="churn",
    title="B: churn, a new TLS connection for every certificate",
    help="A new TLS connection for every certificate, as new pods open them.",
    run=run,
)
