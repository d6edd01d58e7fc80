"""What the proofs of the agent share: short paths for sockets, and meshes with a CA that runs."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.sds.mesh import Mesh
from tests.conformance.server import Installation, running

# The shortest lifetime that is granted is ten times the backdate.
LIFETIME_S = 20
SHORT_LIVES = {"MESHSIGNER_POLICY__BACKDATE": "2s"}


@contextmanager
def short_directory() -> Iterator[Path]:
    """Have a directory whose path leaves room for a socket's name, and that others may enter."""
    directory = Path(tempfile.mkdtemp(prefix="sds-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def running_mesh(command: Path, environment: Mapping[str, str]) -> Iterator[Mesh]:
    """Have a mesh with a CA that runs."""
    with short_directory() as directory:
        made = Installation(command=command, state_dir=directory / "state", environment=environment)
        with running(made) as server:
            yield Mesh(installation=made, ca=server.listen, roots=made.root, directory=directory)


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Tell whether the tests under traffic shall run long."""
    long: bool = request.config.getoption("--soak")
    return long


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory of this test's own."""
    with short_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def mesh(command: Path) -> Iterator[Mesh]:
    """Run the CA that all tests share which leave it alone; its certificates live long."""
    with running_mesh(command, {}) as made:
        yield made


@pytest.fixture(scope="module")
def short_lived(command: Path) -> Iterator[Mesh]:
    """Run a CA that grants certificates of 20 s."""
    with running_mesh(command, SHORT_LIVES) as made:
        yield made
