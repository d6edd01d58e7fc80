"""What the tests of the command line share."""

import os
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from meshsigner.cli import app

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the variables of whoever runs the tests, and what would colour the output."""
    for name in list(os.environ):
        if name.startswith("MESHSIGNER_") or name in {"FORCE_COLOR", "GITHUB_ACTIONS"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def run() -> Run:
    """Return a function that runs the command line in this process."""

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(map(str, arguments)))
        assert result.exit_code == code, result.output
        return result

    return run
