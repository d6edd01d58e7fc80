"""C: ambient. Two hundred ztunnels, a channel each, eight fetches in flight on every one.

A failed identity backs off by itself and is asked again whatever the status was. Every
call has a token of its own: a ztunnel's acting for others is the server's business and
no part of this load.
"""

from typing import Final

from benchmarks.load.loads import Nodes, Warm
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario

_SECONDS: Final = 15.0
_NODES: Final = 200
_DRAIN_S: Final = 30.0
_PER_WORKER_S: Final = 2_500
"""Calls prepared for a second of a worker: more than it can do, or nobody is left to ask."""

_START_S: Final = 1.0
"""Prepared beyond it, for a short run: all ask at once when it begins."""


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    seconds = settings.seconds or _SECONDS
    nodes = settings.connections or _NODES
    way = Warm(connections=nodes)
    with lab.server():
        lab.warm_up()
        pace = Nodes(nodes=nodes, seconds=seconds, drain_s=_DRAIN_S)
        calls = lab.calls("ambient", round((seconds + _START_S) * _PER_WORKER_S * settings.workers))
        measured = lab.measure("ztunnels", [lab.load("ztunnels", calls, pace, way)])
        books = measured.first
        lab.figure("throughput", measured.per_s, "certificates/s")
        lab.figure("server CPU per certificate", measured.data["server"]["cpu_us"], "us")
        lab.figure("p99", books.latencies.at(99), "ms")
        lab.figure("longest wait of an identity", books.longest_ns / 1e9, "s")
        unended = books.ended - books.right
        lab.check("everybody got a certificate", f"{unended} did not", holds=not unended)
        lab.check_inventory()


AMBIENT: Final = Scenario(
    name="ambient",
    title="C: ambient, 200 ztunnels with 8 fetches in flight each",
    help="Ztunnels: 200 channels with 8 fetches in flight each.",
    run=run,
    connections=_NODES,
    short_connections=20,
    csr="p256",
)
