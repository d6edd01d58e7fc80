"""How the figures of several processes become those of one server."""

from datetime import UTC, datetime

import pytest

from meshsigner.observe import names
from meshsigner.observe.families import Family, Sample, read_families
from meshsigner.observe.merging import GAUGES, by_worker, counted, merge
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.supervisor_metrics import SupervisorMetrics
from tests.fakes.authority import make_ca
from tests.unit.trust.test_succession import under


def _metrics(number: int) -> Metrics:
    metrics = Metrics()
    metrics.calls_ended(
        ended={"ok": number}, issued={("jwt", "embedded"): number}, seconds=[0.003] * number
    )
    metrics.calls_in_flight(lambda: number)
    metrics.serving_certificate(taken=True, not_after=datetime(2026, 11, number + 1, tzinfo=UTC))
    metrics.issuer_in_use(under(make_ca("root")))
    return metrics


def _families(number: int) -> tuple[Family, ...]:
    return read_families(_metrics(number).registry)


def _value(families: tuple[Family, ...], name: str, **labels: str) -> float:
    (value,) = (
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and dict(sample.labels) == labels
    )
    return value


def test_counts_add_up() -> None:
    """Counters, every bucket of a histogram, its sum, and Istio's counters."""
    merged = merge([_families(2), _families(5)])
    assert _value(merged, "meshsigner_calls_total", reason="ok") == 7
    assert _value(merged, "meshsigner_call_duration_seconds_count") == 7
    assert _value(merged, "meshsigner_call_duration_seconds_bucket", le="0.005") == 7
    assert _value(merged, "meshsigner_call_duration_seconds_bucket", le="0.002") == 0
    assert _value(merged, "meshsigner_call_duration_seconds_sum") == pytest.approx(0.021)
    assert _value(merged, "citadel_server_success_cert_issuance_count") == 7


def test_gauges_follow_their_rule() -> None:
    """What is under way adds up, of several ends of validity the first counts."""
    merged = merge([_families(2), _families(5)])
    assert _value(merged, "meshsigner_calls_in_flight") == 7
    first = datetime(2026, 11, 3, tzinfo=UTC).timestamp()
    assert _value(merged, names.SERVING_CERTIFICATE_EXPIRY) == first
    assert _value(merged, "meshsigner_build_info", version="0.1.0") == 1


def test_every_gauge_has_a_rule_and_every_rule_a_gauge() -> None:
    """No gauge of a worker is merged by chance."""
    shown = {f.name for f in _families(1) if f.kind in {"gauge", "info"}}
    assert shown == set(GAUGES) - {"python_info"}


def test_supervisor_shows_no_gauge_that_is_a_workers() -> None:
    """The supervisor's own figures mix with none of its workers' but those of the process."""
    own = {family.name for family in SupervisorMetrics().families()}
    common = own & {family.name for family in _families(1)}
    assert all(name.startswith(("process_", "python_")) for name in common)


def test_samples_of_one_alone_are_kept() -> None:
    """A label's value that one process alone has seen is shown as it is."""
    one, other = _metrics(1), _metrics(1)
    other.shed("queue_total")
    merged = merge([read_families(one.registry), read_families(other.registry)])
    assert _value(merged, "meshsigner_shed_total", what="queue_total") == 1


def test_only_counts_outlive_a_process() -> None:
    """Of a worker that ended, what it counted stays; what was under way in it does not."""
    kept = {family.name for family in counted(_families(3))}
    assert "meshsigner_calls" in kept
    assert "meshsigner_calls_in_flight" not in kept
    merged = merge([counted(_families(3)), _families(4)])
    assert _value(merged, "meshsigner_calls_total", reason="ok") == 7
    assert _value(merged, "meshsigner_calls_in_flight") == 4


def test_figures_of_each_worker_apart() -> None:
    """A few figures are shown with the worker's number, under names of their own."""
    apart = by_worker(3, _families(2))
    assert {family.name for family in apart} == set(names.BY_WORKER.values())
    assert _value(apart, "meshsigner_worker_calls_in_flight", worker="3") == 2
    assert _value(apart, "meshsigner_worker_cpu_seconds_total", worker="3") > 0


def test_gauge_that_nobody_knows_shows_the_highest() -> None:
    """A newer library's gauge is shown, though nobody has decided about it."""
    ones = [
        Family(name="x", text="X.", kind="gauge", samples=(Sample(name="x", labels=(), value=v),))
        for v in (3.0, 9.0, 4.0)
    ]
    assert _value(merge([[one] for one in ones]), "x") == 9
