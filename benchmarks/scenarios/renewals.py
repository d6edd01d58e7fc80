"""H: the renewal echo. Twelve hours after a mass start of 100,000 pods: 58 renewals a second.

Pods that have a certificate ask again, beside churn of pods that have none yet. Their
connections are new: a server closes idle ones long before.
"""

from typing import Final

from benchmarks.load.loads import Arrivals, Closed, Warm
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario

_SECONDS: Final = 20.0
_RENEWALS_PER_S: Final = 58.0
_CHURN_PER_WORKER_S: Final = 200.0


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    seconds = settings.seconds or _SECONDS
    rate = settings.rate or _CHURN_PER_WORKER_S * settings.workers
    churn = Arrivals(steps=((rate, seconds),))
    echo = Arrivals(steps=((_RENEWALS_PER_S, seconds),), seed=2)
    with lab.server():
        old = lab.calls("renewals", echo.count)
        way = Warm(connections=4)
        lab.measure("first certificates", [lab.load("pods", old, Closed(in_flight=16), way)])
        new = lab.calls("renewals-churn", churn.count)
        loads = [lab.load("new pods", new, churn), lab.load("renewals", old, echo, drivers=1)]
        both = lab.measure("echo", loads)
        for ledger in both.ledgers:
            lab.figure(f"{ledger.load.name}, p50", ledger.latencies.at(50), "ms")
            lab.figure(f"{ledger.load.name}, p99", ledger.latencies.at(99), "ms")
            refused = ledger.ended - ledger.right
            name = f"{ledger.load.name}: nobody is refused"
            lab.check(name, f"{refused} were", holds=not refused)
        lab.check_inventory()


RENEWALS: Final = Scenario(
    name="renewals",
    title="H: 58 renewals a second beside churn",
    help="The echo of a mass start: 58 renewals a second beside churn.",
    run=run,
)
