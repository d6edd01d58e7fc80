"""`meshsigner check-config` and the configurations that the documentation shows."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from meshsigner.cli.exits import Exit
from meshsigner.config import parse_config
from meshsigner.config.reference import render_reference

ROOT = Path(__file__).parents[3]
PAGES = sorted(p for p in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if p.exists())

Run = Callable[..., Result]

GOOD = """\
trust_domain: cluster.local
clusters: [{id: Kubernetes}]
issuer: {type: directory, path: /etc/meshsigner/ca}
listen: {tls: {type: issuer, dns_names: [a.svc]}}
"""


def _blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, block in enumerate(
            re.findall(r"```ya?ml\n(.*?)```", page.read_text(), re.DOTALL)
        ):
            yield f"{page.name}-{number}", block


BLOCKS = dict(_blocks())


def test_good_file_is_printed_with_defaults(run: Run, tmp_path: Path) -> None:
    """What is printed is the configuration in effect, itself a good file."""
    path = tmp_path / "meshsigner.yaml"
    path.write_text(GOOD)
    assert parse_config(run("check-config", path).stdout) == parse_config(GOOD)


def test_good_file_is_printed_as_json(run: Run, tmp_path: Path) -> None:
    """With --json the configuration in effect is one JSON document."""
    path = tmp_path / "meshsigner.yaml"
    path.write_text(GOOD)
    shown = json.loads(run("check-config", path, "--json").stdout)
    assert shown["policy"]["default_lifetime"] == "24h"


def test_bad_file_is_refused_with_all_problems(run: Run, tmp_path: Path) -> None:
    """A bad file ends with the exit code for input; each problem is a line on standard error."""
    path = tmp_path / "meshsigner.yaml"
    path.write_text(GOOD + "color: blue\nlogging: {level: loud}\n")
    result = run("check-config", path, code=Exit.INPUT)
    assert "2 problems" in result.stderr
    assert "color (meshsigner.yaml line 5)" in result.stderr
    assert "logging.level (meshsigner.yaml line 6)" in result.stderr
    assert result.stdout == ""


def test_missing_file_is_refused(run: Run, tmp_path: Path) -> None:
    """A file that is not there is named."""
    result = run("check-config", tmp_path / "none.yaml", code=Exit.INPUT)
    assert "none.yaml: cannot be read" in result.stderr


def test_reference_is_printed_whole(run: Run) -> None:
    """`config-reference` prints docs/config.md."""
    assert run("config-reference").stdout == render_reference()


@pytest.mark.parametrize("name", BLOCKS)
def test_documented_yaml_is_a_good_configuration_or_says_whose_it_is(
    run: Run, tmp_path: Path, name: str
) -> None:
    """Each YAML block of README and docs is a good configuration, or names another program."""
    block = BLOCKS[name]
    if block.startswith("# meshsigner.yaml\n"):
        parse_config(block, name=name)
    elif block.startswith("# agent.yaml\n"):
        path = tmp_path / "agent.yaml"
        path.write_text(block)
        run("check-config", "--agent", path)
    else:
        assert re.match(r"# (Envoy|Istio|Kubernetes|Prometheus): ", block)


def test_readme_shows_configurations() -> None:
    """README has the production configurations: outside and inside a cluster."""
    assert sum(block.startswith("# meshsigner.yaml\n") for block in BLOCKS.values()) >= 2
