"""F: CA rotation. The CA's files are swapped under load, as Kubernetes swaps a secret's.

Both roots are announced from the start, as a mesh must do it; every answer's chain must
lead to one of them, and nobody may notice anything.
"""

from typing import Final

from benchmarks.load.loads import Arrivals
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.stretch import Event

_SECONDS: Final = 20.0
_PER_WORKER_S: Final = 150.0


def run(lab: Lab) -> None:
    """Measure."""
    settings = lab.settings
    seconds = settings.seconds or _SECONDS
    pace = Arrivals(steps=((settings.rate or _PER_WORKER_S * settings.workers, seconds),))
    with lab.server():
        lab.warm_up()
        calls = lab.calls("rotation", pace.count)
        swap = Event(at_s=seconds / 3, name="CA swapped", act=lab.mesh.rotate)
        books = lab.measure("rotation", [lab.load("pods", calls, pace)], [swap]).first
        refused = books.ended - books.right
        lab.check("nobody is refused", f"{refused} were", holds=not refused)
        lab.check("both CAs have signed", f"{lab.issuers} chains were seen", holds=lab.issuers == 2)
        lab.figure("p99", books.latencies.at(99), "ms")
        lab.figure("longest wait", books.longest_ns / 1e9, "s")
        lab.check_inventory()


ROTATION: Final = Scenario(
    name="rotation",
    title="F: the CA is changed under load",
    help="Another CA takes over under load; every chain must lead to a trusted root.",
    run=run,
)
