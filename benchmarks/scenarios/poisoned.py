"""G: poison. One call in a hundred is wrong: its CSR, its signature, its token.

Each wrong call must get the status that is due, and the good ones must fare as without.
"""

from typing import Final

from benchmarks.load.loads import Arrivals
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.poison import all_kinds
from benchmarks.scenarios.scenario import Scenario

_SECONDS: Final = 20.0
_PER_WORKER_S: Final = 200.0
_SHARE: Final = 0.01
_LEAST_PER_S: Final = 2.0


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    seconds = settings.seconds or _SECONDS
    rate = settings.rate or _PER_WORKER_S * settings.workers
    good = Arrivals(steps=((rate, seconds),))
    bad = Arrivals(steps=((max(rate * _SHARE, _LEAST_PER_S), seconds),), seed=2)
    with lab.server():
        lab.warm_up()
        calls = lab.calls("poison-good", good.count)
        wrong = lab.calls("poison-bad", bad.count, spoil=all_kinds(lab.token_issuer))
        alone = lab.measure("alone", [lab.load("good", calls, good)])
        loads = [lab.load("good", calls, good), lab.load("wrong", wrong, bad, drivers=1)]
        beside = lab.measure("beside wrong calls", loads)
        lab.check_inventory()
    refused = beside.first.ended - beside.first.right
    lab.check("no valid caller is harmed", f"{refused} were refused", holds=not refused)
    unexpected = beside.ledgers[1].unexpected
    detail = f"{unexpected} of {beside.ledgers[1].ended} did not"
    lab.check("wrong calls get the status that is due", detail, holds=not unexpected)
    for name, measured in (("alone", alone), ("beside wrong calls", beside)):
        lab.figure(f"good calls {name}, p50", measured.first.latencies.at(50), "ms")
        lab.figure(f"good calls {name}, p99", measured.first.latencies.at(99), "ms")


POISON: Final = Scenario(
    name="poison",
    title="G: one call in a hundred is wrong",
    help="1 % wrong CSRs and tokens beside good calls, which must not notice.",
    run=run,
)
