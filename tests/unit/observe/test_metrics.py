"""The figures: names, closed sets of labels, and what each method counts."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshsigner.errors import MeshsignerError
from meshsigner.observe import names
from meshsigner.observe.metrics import Metrics, reasons

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


@pytest.fixture
def metrics() -> Metrics:
    """A process's figures."""
    return Metrics()


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_calls_that_ended(metrics: Metrics) -> None:
    """Ends, certificates and times of one turn are counted together."""
    metrics.calls_ended(
        ended={"ok": 2, "unauthenticated": 3},
        issued={("jwt", "embedded"): 2},
        seconds=[0.0004, 0.2],
    )
    assert _value(metrics, "meshsigner_calls_total", reason="ok") == 2
    assert _value(metrics, "meshsigner_calls_total", reason="unauthenticated") == 3
    issued = {"auth_method": "jwt", "backend": "embedded"}
    assert _value(metrics, "meshsigner_certificates_issued_total", **issued) == 2
    assert _value(metrics, "meshsigner_call_duration_seconds_count") == 2
    assert _value(metrics, "meshsigner_call_duration_seconds_bucket", le="0.001") == 1


def test_every_reason_is_there_from_the_start(metrics: Metrics) -> None:
    """An alert on a reason that has not yet happened sees zero, not nothing."""
    for reason in [*reasons(), *names.Outcome]:
        assert _value(metrics, "meshsigner_calls_total", reason=reason) == 0


def test_reasons_are_those_of_the_error_tree() -> None:
    """The closed set of the label is the tree, root and leaves."""
    assert {"internal", "unauthenticated", "wrong_certificate"} <= set(reasons())
    assert all(re.fullmatch(r"[a-z_]+", reason) for reason in reasons(MeshsignerError))


def test_the_pipelines_counts(metrics: Metrics) -> None:
    """Turns, commits, parked requests, sheds and wrong certificates are shown."""
    metrics.turn_done(members=16, seconds=0.003, queued=4)
    metrics.parked(7)
    metrics.commit_done(records=9, seconds=0.001)
    metrics.commit_failed()
    metrics.shed("queue_total")
    metrics.wrong_certificate("vault")
    metrics.lines_lost(3)
    metrics.calls_in_flight(lambda: 5)
    assert _value(metrics, "meshsigner_turn_members_sum") == 16
    assert _value(metrics, "meshsigner_turn_duration_seconds_sum") == 0.003
    assert _value(metrics, "meshsigner_orders_queued") == 4
    assert _value(metrics, "meshsigner_requests_parked") == 7
    assert _value(metrics, "meshsigner_commit_records_sum") == 9
    assert _value(metrics, "meshsigner_commit_failures_total") == 1
    assert _value(metrics, "meshsigner_shed_total", what="queue_total") == 1
    assert _value(metrics, "meshsigner_wrong_certificates_total", backend="vault") == 1
    assert _value(metrics, "meshsigner_log_lines_lost_total") == 3
    assert _value(metrics, "meshsigner_calls_in_flight") == 5


def test_the_serving_certificates_changes(metrics: Metrics) -> None:
    """Taken and refused pairs are counted apart; the expiry is the last one taken."""
    metrics.serving_certificate(taken=True, not_after=datetime(2027, 1, 1, tzinfo=UTC))
    metrics.serving_certificate(taken=False)
    expiry = "meshsigner_serving_certificate_expiry_timestamp_seconds"
    assert _value(metrics, expiry) == datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    reloads = "meshsigner_serving_certificate_reloads_total"
    assert [_value(metrics, reloads, result=r) for r in ("taken", "refused")] == [1, 1]


def test_processes_do_not_share_figures() -> None:
    """Two objects in one process count for themselves."""
    first, second = Metrics(), Metrics()
    first.shed("x")
    assert _value(second, "meshsigner_shed_total", what="x") is None


def test_prometheus_can_read_it(metrics: Metrics) -> None:
    """The text is parsed back without loss, and tells version and process."""
    metrics.calls_ended(ended={"ok": 1}, issued={}, seconds=[])
    families = list(text_string_to_metric_families(metrics.render().decode()))
    shown = {sample.name for family in families for sample in family.samples}
    assert {"meshsigner_build_info", "process_resident_memory_bytes"} <= shown
    assert {"meshsigner_calls_total", "citadel_server_csr_count"} <= shown


def _own(metrics: Metrics) -> Iterable[tuple[str, str]]:
    """Yield name and help of everything that is not the library's own."""
    for family in metrics.registry.collect():
        if family.name.startswith(("meshsigner_", "citadel_")):
            total = "_total" if family.type == "counter" else ""
            info = "_info" if family.type == "info" else ""
            yield family.name + total + info, family.documentation


def test_page_explains_every_metric(metrics: Metrics) -> None:
    """docs/metrics.md has a row for each metric, with the text that /metrics shows."""
    page = PAGE.read_text()
    missing = [n for n, text in _own(metrics) if f"| `{n}`" not in page or text not in page]
    assert missing == []
