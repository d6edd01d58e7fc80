"""One socket for several workloads: an Envoy gets its own workload's secrets and no other's.

As root the Envoys run as users of their own. Anybody else is the declared user, and declares
another to be the stranger: what the kernel proves is the same.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.conformance.sds import agent, envoy
from tests.conformance.sds.agent import AgentPlan, RunningAgent
from tests.conformance.sds.bootstrap import Sds
from tests.conformance.sds.envoy import Envoy
from tests.conformance.sds.mesh import CLIENT, SERVER, Mesh, identity, server_of
from tests.conformance.server import free_address

IS_ROOT = os.geteuid() == 0
USER = 20_001 if IS_ROOT else os.geteuid()
OTHER, NOBODYS = USER + 1, USER + 2
SHARED, OWN = "shared", "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine with an agent for several workloads.

    Attributes:
        agent: The agent.
        mesh: Its mesh.
        program: An Envoy that every user may run.
    """

    agent: RunningAgent
    mesh: Mesh
    program: Path

    @contextmanager
    def envoy(self, name: str, certificate: str, user: int = USER) -> Iterator[Envoy]:
        """Have an Envoy that asks the shared socket for a certificate; it need not get it."""
        sds = Sds(socket=self.mesh.directory / SHARED, certificate=certificate)
        bootstrap = server_of(name, free_address(), [], sds)
        as_user = user if IS_ROOT else None
        with envoy.running(
            bootstrap, self.mesh.directory, program=self.program, user=as_user
        ) as started:
            yield started


def _plan(mesh: Mesh, *users: int) -> AgentPlan:
    """Plan an agent for a client and a server, whose processes have these users."""
    workloads = [
        {
            "name": name,
            "identity": identity(name),
            "token_file": os.fspath(mesh.token(name)),
            "user": user,
        }
        for name, user in zip((CLIENT, SERVER), users, strict=True)
    ]
    paths = {"path": mesh.directory / SHARED, "directory": mesh.directory / OWN}
    shared = {name: os.fspath(path) for name, path in paths.items()}
    usual = mesh.plan(CLIENT, shared_socket=shared)
    return replace(usual, name="node", workloads=workloads)


@pytest.fixture(scope="module")
def program(mesh: Mesh) -> Path:
    """Put Envoy where every user may run it."""
    path = mesh.directory / "envoy"
    shutil.copy(envoy.binary(), path)
    path.chmod(0o755)
    return path


@pytest.fixture
def node(mesh: Mesh, program: Path) -> Iterator[Node]:
    """Run an agent for a client and a server at one socket."""
    with agent.running(_plan(mesh, USER, OTHER)) as one:
        one.wait_for("certificate obtained", 2)
        yield Node(agent=one, mesh=mesh, program=program)


def test_each_user_has_its_own_workload(node: Node) -> None:
    """The same name means to each process the certificate of its own workload."""
    with node.envoy("first", "default") as first:
        first.wait_live()
        assert first.serials() == {node.agent.serial(CLIENT)}
    if IS_ROOT:
        with node.envoy("second", "default", OTHER) as second:
            second.wait_live()
            assert second.serials() == {node.agent.serial(SERVER)}


def test_another_workloads_identity_is_refused(node: Node) -> None:
    """A process that asks for a workload that is not its own is told so, and gets no key."""
    with node.envoy("curious", identity(SERVER)) as curious:
        refused = node.agent.wait_for("secret stream refused")
        assert (refused["workload"], identity(SERVER) in refused["cause"]) == (CLIENT, True)
        assert curious.state != "LIVE"
        assert curious.serials() == set()


def test_statement_71_another_user_gets_nothing(mesh: Mesh, program: Path) -> None:
    """A process of a user that is not declared is not even heard."""
    declared = (USER, OTHER) if IS_ROOT else (OTHER, NOBODYS)
    stranger = NOBODYS if IS_ROOT else USER
    with agent.running(_plan(mesh, *declared)) as one:
        one.wait_for("certificate obtained", 2)
        node = Node(agent=one, mesh=mesh, program=program)
        with node.envoy("stranger", "default", stranger) as running:
            refused = one.wait_for("process refused at the shared socket", 2)
            assert refused["uid"] == stranger
            assert running.state != "LIVE"
            assert running.serials() == set()
        assert not one.lines("secrets sent")


def test_private_sockets_are_out_of_reach(node: Node) -> None:
    """Behind the shared socket nobody comes but the agent's own user."""
    own = node.mesh.directory / OWN
    found = own.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, os.geteuid())
    sockets = [path for path in own.iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert sorted(path.stem for path in sockets) == [CLIENT, SERVER]
    assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}
