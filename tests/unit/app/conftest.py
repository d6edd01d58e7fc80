"""What the tests of the assembly share."""

import os

import pytest


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide variables of whoever runs the tests, and that they may run in a cluster."""
    for name in list(os.environ):
        if name.startswith(("MESHSIGNER_", "KUBERNETES_")):
            monkeypatch.delenv(name)
