"""Figures that leave the process that counted them."""

import json

from prometheus_client import CollectorRegistry, Gauge

from meshsigner.observe.families import from_plain, read_families, render_families, to_plain
from meshsigner.observe.metrics import Metrics


def _metrics() -> Metrics:
    metrics = Metrics()
    metrics.calls_ended(
        ended={"ok": 3, "invalid_csr": 1}, issued={("jwt", "embedded"): 3}, seconds=[0.1, 0.2, 7]
    )
    metrics.turn_done(members=3, seconds=0.01, queued=2)
    return metrics


def test_families_survive_json() -> None:
    """What was read comes back the same, label by label."""
    families = read_families(_metrics().registry)
    assert from_plain(json.loads(json.dumps(to_plain(families)))) == families


def test_text_is_the_librarys_own() -> None:
    """Shown as values, a process's figures look as it shows them itself."""
    metrics = _metrics()
    own = metrics.render()
    shown = render_families(read_families(metrics.registry))

    def stable(page: bytes) -> list[str]:
        lines = page.decode().splitlines()
        return [line for line in lines if not line.startswith(("process_", "python_"))]

    assert stable(shown) == stable(own)
    assert len(stable(own)) > 100


def test_infinite_values_survive() -> None:
    """A gauge may be infinite or no number at all."""
    registry = CollectorRegistry()
    Gauge("one", "One.", registry=registry).set(float("inf"))
    (family,) = from_plain(json.loads(json.dumps(to_plain(read_families(registry)))))
    assert family.samples[0].value == float("inf")
