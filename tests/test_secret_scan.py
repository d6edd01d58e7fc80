"""The search for secrets in what tests print bites, and lets harmless tests through."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.secret_scan import Secrets

ROOT = Path(__file__).parents[1]
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

BODIES = {
    "standard_output": f"print('token {TOKEN}')",
    "standard_error": f"import sys; print('token {TOKEN}', file=sys.stderr)",
    "logging": f"import logging; logging.getLogger('x').warning('token %s', '{TOKEN}')",
    "a_childs_output": f"import subprocess; subprocess.run(['echo', '{TOKEN}'], check=True)",
    "a_key": "print('-----BEGIN EC PRIVATE ' + 'KEY-----\\nMHc')",
    "a_registered_word": "no_secrets.register('hunter2hunter2'); print('hunter2hunter2')",
    "what_was_seen_elsewhere": f"no_secrets.saw('detail {TOKEN}')",
}
HARMLESS = "print('serving on 15012, token [redacted]')"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of a file with one test for each leak, and one without."""
    folder = tmp_path_factory.mktemp("leaks")
    bodies = {**BODIES, "nothing": HARMLESS}
    tests = [f"def test_{name}(no_secrets):\n    {body}\n" for name, body in bodies.items()]
    (folder / "test_it.py").write_text("\n".join(tests))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "tests.secret_scan", "test_it.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize("where", BODIES)
def test_a_leak_fails_its_test(report: str, where: str) -> None:
    """A token or key in output, log, a child's output or a registered text fails the test."""
    assert f"FAILED test_it.py::test_{where}" in report
    assert "secret material in what the server said" in report


def test_harmless_output_passes(report: str) -> None:
    """Output without secrets, and a blanked token, pass."""
    assert "PASSED test_it.py::test_nothing" in report


def test_a_leak_is_told_cut_short() -> None:
    """The report of a leak does not repeat the whole secret."""
    (told,) = Secrets().leaks(f"token {TOKEN}")
    assert told.startswith("eyJ")
    assert len(told) < len(TOKEN)
