"""Istio's own agent takes ours for its external SDS, and starts no CA client of its own.

It is unmodified and runs the real Envoy, whose bootstrap names the socket as Istio's does.
"""

import os
from dataclasses import replace
from pathlib import Path

from tests.conformance.sds import agent, pilot_agent
from tests.conformance.sds.bootstrap import Bootstrap, Sds
from tests.conformance.sds.envoy import Envoy
from tests.conformance.sds.mesh import CLIENT, SERVER, Mesh, server_of
from tests.conformance.server import free_address

FOUND = f"Existing workload SDS socket found at {pilot_agent.SOCKET}"
OWN_SDS = f'will listen on "{pilot_agent.SOCKET}"'
CA_CLIENT = "CA Endpoint"


def _bootstrap() -> Bootstrap:
    # Relative, as in Istio's own bootstrap: its agent starts Envoy in its own folder.
    return server_of("istio-envoy", free_address(), [CLIENT], Sds(socket=pilot_agent.SOCKET))


def test_without_us_istio_asks_the_ca(mesh: Mesh, place: Path) -> None:
    """Where there is no socket Istio's agent makes its own, and a client of the CA."""
    pilot_agent.prepare(place, mesh.roots, mesh.token(SERVER))
    with pilot_agent.door() as ca, pilot_agent.running(place, ca, _bootstrap(), SERVER) as istio:
        istio.wait(lambda: OWN_SDS in istio.text(), "SDS of its own")
        istio.wait(lambda: ca.knocks > 0, "call to the CA")
        assert CA_CLIENT in istio.text()
        assert FOUND not in istio.text()


def test_statement_62_istio_takes_our_socket(mesh: Mesh, place: Path) -> None:
    """Where our socket is Istio's agent uses it, and Envoy serves by what it gives."""
    pilot_agent.prepare(place, mesh.roots, mesh.token(SERVER))
    socket = place / pilot_agent.SOCKET
    usual = mesh.plan(SERVER, workload={"socket": os.fspath(socket)})
    bootstrap = _bootstrap()
    with (
        agent.running(replace(usual, name="external-sds", directory=place)) as ours,
        pilot_agent.door() as ca,
    ):
        inode = socket.stat().st_ino
        with pilot_agent.running(place, ca, bootstrap, SERVER) as istio:
            running = Envoy(
                name=bootstrap.node, admin=bootstrap.admin, process=istio.process, log=istio.log
            )
            running.wait_live()
            assert running.serials() == {ours.serial()}
            text = istio.text()
        assert FOUND in text
        assert CA_CLIENT not in text
        assert OWN_SDS not in text
        assert ca.knocks == 0
        assert socket.stat().st_ino == inode
        assert {line["node"] for line in ours.lines("secrets sent")} == {bootstrap.node}
