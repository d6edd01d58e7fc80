"""The chart's pages say what its values say, its alerts and dashboard what the documents say."""

import json
import re
from pathlib import Path

import pytest
import yaml

from charts.pages import CHART, readme, schema, values

ROOT = CHART.parent.parent
VALUES = (CHART / "values.yaml").read_text()
METRIC = re.compile(r"\b(?:meshsigner|citadel)_[a-z_]+")
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")
DOCUMENTED = set(METRIC.findall((ROOT / "docs" / "metrics.md").read_text()))


def _undocumented(text: str) -> set[str]:
    found = set(METRIC.findall(text))
    return {
        name for name in found if name not in DOCUMENTED and SUFFIX.sub("", name) not in DOCUMENTED
    }


def test_readme_is_what_the_values_make() -> None:
    """Run `make docs` after a change of values.yaml."""
    assert (CHART / "README.md").read_text() == readme(values(VALUES))


def test_schema_is_what_the_values_make() -> None:
    """Run `make docs` after a change of values.yaml."""
    assert json.loads((CHART / "values.schema.json").read_text()) == schema(values(VALUES))


def test_a_value_without_a_text_is_an_error() -> None:
    """Nobody adds a value without saying what it means."""
    with pytest.raises(ValueError, match=r"a\.c has no line"):
        values("a:\n  # -- Known.\n  b: 1\n  c: 2\n")


def test_a_text_above_nothing_is_an_error() -> None:
    """A text whose value was taken away goes with it."""
    with pytest.raises(ValueError, match="texts above no value"):
        values("# -- A group.\na:\n  # -- One of it.\n  b: 1\n")


def test_every_default_fits_the_schema_of_its_value() -> None:
    """Choices and bounds hold for the defaults themselves."""
    for value in values(VALUES):
        node = schema(values(VALUES))
        for name in value.path.split("."):
            node = node["properties"][name]
        if "enum" in node:
            assert value.default in node["enum"], value.path
        if "minimum" in node and value.default is not None:
            assert value.default >= node["minimum"], value.path


def test_every_alert_has_its_run_book_and_known_metrics() -> None:
    """An alert that fires leads to a section of its name."""
    text = (CHART / "files" / "alerts.yaml").read_text()
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE)
    alerts = [rule for group in yaml.safe_load(text) for rule in group["rules"]]
    assert [rule["alert"] for rule in alerts] == sections
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"docs/operate.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning"}
    assert not _undocumented(text)


def test_the_dashboard_shows_known_metrics() -> None:
    """A metric that is renamed does not leave an empty panel."""
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= len(dashboard["panels"]) >= 8
    assert not _undocumented("\n".join(expressions))


def _envoy(path: Path) -> str:
    """Return an Envoy configuration without remarks, addresses and template instructions."""
    text = path.read_text()
    lines = [line for line in text[text.index("node:") :].splitlines() if "{{-" not in line]
    kept = [line for line in lines if "pipe:" not in line]
    joined = "\n".join(kept)
    for address in ("15012", "{{ .Values.front.port }}"):
        joined = joined.replace(address, "PORT")
    return re.sub(r"/etc/[a-z/]+/(front-)?(certificate|roots)\.yaml", r"\2", joined)


def test_the_charts_envoy_is_the_one_that_was_tested() -> None:
    """The example, which a conformance test runs, and the chart's differ in addresses alone."""
    chart, example = CHART / "files" / "front.yaml", ROOT / "examples" / "envoy" / "front.yaml"
    assert _envoy(chart) == _envoy(example)
