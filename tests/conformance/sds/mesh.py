"""A small mesh on loopback: a CA, workloads with an agent and an Envoy each, and ways between them.

Decides who has which name, address and file. How an agent or an Envoy is started is `agent`'s and
`envoy`'s matter.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.conformance.sds import agent, envoy
from tests.conformance.sds.agent import AgentPlan, RunningAgent
from tests.conformance.sds.bootstrap import (
    Bootstrap,
    Sds,
    Upstream,
    client_listener,
    server_listener,
)
from tests.conformance.sds.envoy import Envoy
from tests.conformance.sds.traffic import KEPT, NEW
from tests.conformance.server import Installation, free_address

CLIENT, SERVER = "client", "server"
NAMESPACE = "foo"


def identity(name: str) -> str:
    """Return the SPIFFE ID of a workload."""
    return f"spiffe://cluster.local/ns/{NAMESPACE}/sa/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """A CA with what is needed to be its client.

    Attributes:
        installation: The meshsigner under test and the CA's state.
        ca: host:port of the CA.
        roots: PEM file with the roots of its serving certificate.
        directory: Short path for sockets, files and logs.
    """

    installation: Installation
    ca: str
    roots: Path
    directory: Path

    def token(self, name: str) -> Path:
        """Make a workload's token and return its file."""
        path = self.directory / f"{name}.token"
        if not path.exists():
            path.write_text(self.installation.token(name, namespace=NAMESPACE))
        return path

    def plan(
        self, name: str, *, workload: Mapping[str, Any] | None = None, **more: Any
    ) -> AgentPlan:
        """Plan the agent of one workload.

        Args:
            name: The workload's.
            workload: Settings of the workload beside the usual ones.
            more: Further settings of the agent.
        """
        usual = {
            "token_file": os.fspath(self.token(name)),
            "socket": os.fspath(self.sds(name).socket),
        }
        return AgentPlan(
            name=name,
            command=self.installation.command,
            directory=self.directory,
            ca=self.ca,
            roots=self.roots,
            workloads=[{**usual, **(workload or {})}],
            more=more,
        )

    def sds(self, name: str, **how: Any) -> Sds:
        """Return where a workload's Envoy finds its secrets."""
        return Sds(socket=self.directory / name / "socket", **how)


def server_of(name: str, address: str, clients: Sequence[str], sds: Sds) -> Bootstrap:
    """Plan an Envoy that serves some clients.

    Args:
        name: For the Envoy.
        address: host:port of its mTLS listener.
        clients: Names of the workloads that may connect.
        sds: Where its secrets come from.
    """
    listener = server_listener(address, sds, [identity(client) for client in clients])
    return Bootstrap(node=name, admin=free_address(), sds=sds, listeners=[listener])


def client_of(name: str, address: str, upstreams: Sequence[Upstream], sds: Sds) -> Bootstrap:
    """Plan an Envoy that carries a workload's requests.

    Args:
        name: For the Envoy.
        address: host:port of its plain listener.
        upstreams: Where they go.
        sds: Where its secrets come from.
    """
    return Bootstrap(
        node=name,
        admin=free_address(),
        sds=sds,
        upstreams=upstreams,
        listeners=[client_listener(address, upstreams)],
    )


def ways_to(address: str, name: str = SERVER) -> list[Upstream]:
    """Return the two ways to a server that a load uses."""
    who = identity(name)
    return [
        Upstream(name=KEPT, address=address, identity=who),
        Upstream(name=NEW, address=address, identity=who, requests=1),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two workloads that talk, live.

    Attributes:
        client_agent: The client's agent.
        server_agent: The server's agent.
        client: The client's Envoy.
        server: The server's Envoy.
        plain: host:port where the client's requests begin.
        mtls: host:port where they end.
    """

    client_agent: RunningAgent
    server_agent: RunningAgent
    client: Envoy
    server: Envoy
    plain: str
    mtls: str

    @property
    def agents(self) -> tuple[RunningAgent, RunningAgent]:
        """Both agents."""
        return self.client_agent, self.server_agent

    def wait_fresh(self) -> None:
        """Wait until both Envoys present what their agents obtained last."""
        wait_presented(self.client, self.client_agent)
        wait_presented(self.server, self.server_agent)


def wait_presented(running: Envoy, one: RunningAgent) -> None:
    """Wait until an Envoy presents what its agent obtained last."""
    running.wait(lambda: running.serials() == {one.serial()}, "presenting the last certificate")


@contextmanager
def pair(
    mesh: Mesh,
    *,
    workload: Mapping[str, Any] | None = None,
    instead: Sequence[str] = (),
    **more: Any,
) -> Iterator[Pair]:
    """Have two workloads that talk for the length of a block.

    The client's Envoy speaks delta to its agent, the server's the state of the world.

    Args:
        mesh: Their mesh.
        workload: Settings of both workloads.
        instead: A program that is run in place of both agents.
        more: Further settings of both agents.
    """
    mtls, plain = free_address(), free_address()
    server = server_of("server-envoy", mtls, [CLIENT], mesh.sds(SERVER))
    delta = mesh.sds(CLIENT, api="DELTA_GRPC")
    client = client_of("client-envoy", plain, ways_to(mtls), delta)
    plans = [mesh.plan(name, workload=workload, **more) for name in (CLIENT, SERVER)]
    with ExitStack() as stack:
        agents = [
            stack.enter_context(agent.running(replace(plan, instead=instead))) for plan in plans
        ]
        envoys = [
            stack.enter_context(envoy.running(one, mesh.directory)) for one in (client, server)
        ]
        for one in envoys:
            one.wait_live()
        yield Pair(
            client_agent=agents[0],
            server_agent=agents[1],
            client=envoys[0],
            server=envoys[1],
            plain=plain,
            mtls=mtls,
        )
