"""The agent's figures: names, labels, what each method counts, and their page."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.observe.agent_metrics import AgentMetrics

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
WHO = {"workload": "productpage"}


@pytest.fixture
def metrics() -> AgentMetrics:
    """An agent's figures."""
    return AgentMetrics(["productpage"])


def _value(metrics: AgentMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"meshsigner_agent_{name}", labels)


def test_every_workload_is_there_from_the_start(metrics: AgentMetrics) -> None:
    """An alert sees zero, not nothing, while all is well and before anything is."""
    for name in (
        "certificate_expiry_timestamp_seconds",
        "certificates_obtained_total",
        "streams",
        "secrets_sent_total",
        "secrets_refused_total",
    ):
        assert _value(metrics, name, **WHO) == 0


def test_certificates_are_counted(metrics: AgentMetrics) -> None:
    """Obtained, failed by status, and when the one that is served expires."""
    end = datetime(2026, 11, 25, tzinfo=UTC)
    metrics.obtained("productpage", seconds=0.02)
    metrics.failed("productpage", "UNAVAILABLE")
    metrics.serves("productpage", end)
    assert _value(metrics, "certificates_obtained_total", **WHO) == 1
    assert _value(metrics, "certificate_failures_total", code="UNAVAILABLE", **WHO) == 1
    assert _value(metrics, "certificate_expiry_timestamp_seconds", **WHO) == end.timestamp()
    assert _value(metrics, "certificate_duration_seconds_count") == 1
    metrics.serves("productpage", None)
    assert _value(metrics, "certificate_expiry_timestamp_seconds", **WHO) == 0


def test_secrets_are_counted(metrics: AgentMetrics) -> None:
    """Streams, responses, refusals, acknowledgements and strangers."""
    metrics.stream_opened("productpage")
    metrics.stream_opened("productpage")
    metrics.stream_closed("productpage")
    metrics.sent("productpage")
    metrics.accepted(0.003)
    metrics.refused("productpage")
    metrics.peer_refused()
    assert _value(metrics, "streams", **WHO) == 1
    assert _value(metrics, "secrets_sent_total", **WHO) == 1
    assert _value(metrics, "secrets_refused_total", **WHO) == 1
    assert _value(metrics, "secret_accepted_duration_seconds_count") == 1
    assert _value(metrics, "peers_refused_total") == 1


def test_page_explains_every_metric(metrics: AgentMetrics) -> None:
    """docs/metrics.md has a row for each, with the text that /metrics shows."""
    page = PAGE.read_text()
    own = [f for f in metrics.registry.collect() if f.name.startswith("meshsigner_agent")]
    assert len(own) == 9
    for family in own:
        total = "_total" if family.type == "counter" else ""
        assert f"| `{family.name}{total}` |" in page
        assert family.documentation in page
    assert b"meshsigner_build_info" in metrics.render()
