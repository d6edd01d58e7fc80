"""What the conformance tests share: one server for all that only ask, and the tokens to ask with.

Everything is checked before the first test: what is missing ends the run with the commands that
install it, and a skipped test fails the run, so that nothing is left out in silence.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import prerequisites
from tests.conformance.istio_client import CaseReport, IstioClient
from tests.conformance.kubernetes.cluster import ControlPlane, control_plane
from tests.conformance.server import Installation, RunningServer, running


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let another installation than the project's own be tested, such as an installed wheel."""
    parser.addoption(
        "--meshsigner",
        type=Path,
        default=Path(sys.executable).parent / "meshsigner",
        help="the meshsigner command to test",
    )
    parser.addoption(
        "--soak",
        action="store_true",
        help="let the tests under steady traffic run for minutes instead of seconds (make soak)",
    )


def pytest_sessionstart() -> None:
    """End the run at once if something is missing, and name everything that is."""
    lacking = prerequisites.missing()
    if lacking:
        pytest.exit(prerequisites.explain(lacking), returncode=1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly that a skip is a failure here."""
    if terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("conformance tests may not skip", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which a test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def command(request: pytest.FixtureRequest) -> Path:
    """Return the meshsigner command under test."""
    path: Path = request.config.getoption("--meshsigner")
    return path


@pytest.fixture
def installation(command: Path, tmp_path: Path) -> Installation:
    """Return a fresh state directory, for tests that break their server."""
    return Installation(command=command, state_dir=tmp_path / "state")


@pytest.fixture(scope="session")
def server(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run the server that all tests share which only ask."""
    state_dir = tmp_path_factory.mktemp("shared") / "state"
    with running(Installation(command=command, state_dir=state_dir)) as started:
        yield started


@pytest.fixture(scope="session")
def tokens(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return token files by the role they play in the Go program's cases."""
    made = server.installation
    texts = {
        "expired": made.token("bar", "--ttl=-5m"),  # longer ago than any leeway for clocks
        "valid": made.token("bar", "--pod", "bar-0"),
        "peer": made.token("peer", "--pod", "peer-0"),
        "wrong-audience": made.token("bar", "--audience", "somebody-else"),
    }
    folder = tmp_path_factory.mktemp("tokens")
    for role, text in texts.items():
        (folder / role).write_text(text)
    return {role: folder / role for role in texts}


@pytest.fixture(scope="session")
def istio(server: RunningServer, tokens: dict[str, Path]) -> IstioClient:
    """Return Istio's client, set up for the shared server."""
    return IstioClient(server=server.listen, root=server.installation.root, tokens=tokens)


@pytest.fixture(scope="session")
def reports(istio: IstioClient) -> dict[str, CaseReport]:
    """Run every case that needs no preparation, once for all tests that look at them."""
    return istio.run()


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run the cluster that all tests share which leave its programs alone."""
    with control_plane(tmp_path_factory.mktemp("kubernetes")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def other_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a second cluster, which shares nothing with the first but the issuer's name."""
    with control_plane(tmp_path_factory.mktemp("other-kubernetes")) as cluster:
        yield cluster
