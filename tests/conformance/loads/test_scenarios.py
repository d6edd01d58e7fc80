"""Every scenario once, in its shortest form, against a real `meshsigner serve`.

What they find out is of no interest here: that they run, that their checks hold, and that a
report comes of it. The long forms are commands (docs/performance.md).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 600.0
SOAK_TIMEOUT_S = 1_800.0
LOADS = {
    *("warm", "churn", "ambient", "herd", "overload"),
    *("rotation", "poison", "renewals", "heal"),
}


def run(out: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run a command of the benchmarks, and return the results that it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--out", str(out)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=SOAK_TIMEOUT_S if "1200" in arguments else TIMEOUT_S,
        check=False,
    )
    results = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    broken = [(r["scenario"], c) for r in results for c in r["checks"] if not c["holds"]]
    assert broken == []
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return results


def test_every_scenario_runs_and_its_checks_hold(tmp_path: Path) -> None:
    """Each scenario ends with certificates, with all of its checks holding, and with a page."""
    results = run(tmp_path, "all", "--seconds", "1")
    assert {result["scenario"] for result in results} == LOADS
    for result in results:
        assert all(stretch["certificates"] for stretch in result["stretches"])
        inventory = [c for c in result["checks"] if c["name"].startswith("inventory")]
        assert len(inventory) == 1
    assert len(list(tmp_path.glob("*.html"))) == len(LOADS)


def test_nothing_is_lost_or_mixed_up_while_everything_goes_wrong(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Worker kills, CA changes and store stalls: every certificate is recorded and its caller's."""
    seconds = "1200" if request.config.getoption("--soak") else "45"
    (result,) = run(tmp_path, "soak", "--seconds", seconds, "--rate", "60")
    happened = {event["name"] for stretch in result["stretches"] for event in stretch["events"]}
    assert happened == {"worker killed", "CA changed", "store stalls"}


def test_mixed_requests_of_three_clusters_get_what_is_due(tmp_path: Path) -> None:
    """Good and wrong calls of three clusters together: each gets its own status or certificate."""
    (result,) = run(tmp_path, "mixed", "--requests", "4000")
    figures = {figure["name"]: figure["value"] for figure in result["figures"]}
    assert figures == {"requests": 4000, "certificates": 3600}
