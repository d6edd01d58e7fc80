"""SoftHSM2 for the tests: a token of each test's own, with or without a shim before it."""

import subprocess
from pathlib import Path

import pytest

from tests.conformance.softhsm.token import SoftHsm
from tests.secret_scan import no_secrets, pytest_runtest_makereport

__all__ = ["no_secrets", "pytest_runtest_makereport"]

SHIM_SOURCE = Path(__file__).parent / "shim.c"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the module that breaks on command."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]
    subprocess.run([*command, library, SHIM_SOURCE, "-ldl"], check=True, timeout=60.0)
    return library


@pytest.fixture
def plain_hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """Return a token behind SoftHSM2's own module; this process finds it, too."""
    return _hsm(SoftHsm(directory=tmp_path / "hsm"), monkeypatch)


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shim: Path) -> SoftHsm:
    """Return a token behind the shim."""
    return _hsm(SoftHsm(directory=tmp_path / "hsm", module=shim), monkeypatch)


def _hsm(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    hsm.set_up()
    for name, value in hsm.environment.items():
        monkeypatch.setenv(name, value)
    return hsm
