"""The agent dies under traffic: nobody notices, and its successor takes over.

What Envoy holds is good without an agent. The successor finds the socket that was left behind.
"""

import os

from tests.conformance.sds import agent, envoy, traffic
from tests.conformance.sds.agent import RunningAgent
from tests.conformance.sds.envoy import Envoy
from tests.conformance.sds.mesh import SERVER, Mesh, pair, server_of, wait_presented
from tests.conformance.server import free_address

LEAST_REQUESTS = 20
CONNECTED = r"^sds\.default\.control_plane\.connected_state$"
CONTEXTS = r"^listener\.mtls\.server_ssl_socket_factory\.ssl_context_update_by_sds$"


def _die(one: RunningAgent, running: Envoy) -> None:
    """Kill an agent and wait until its Envoy is without."""
    one.kill()
    running.wait(lambda: running.total(CONNECTED) == 0, "without an agent")


def test_agents_are_killed_under_traffic(mesh: Mesh) -> None:
    """Kept connections live, new ones come about, Envoy returns and gets fresh secrets."""
    with pair(mesh) as both, traffic.running(both.plain) as load:
        envoys = (both.client, both.server)
        held = [running.serials() for running in envoys]
        for one, running in zip(both.agents, envoys, strict=True):
            _die(one, running)
        before = dict(load.requests)
        both.client.wait(
            lambda: min(load.requests[kind] - before[kind] for kind in before) >= LEAST_REQUESTS,
            "carrying requests without any agent",
        )
        assert [running.serials() for running in envoys] == held
        client, server = (one.plan for one in both.agents)
        with agent.running(client) as next_client, agent.running(server) as next_server:
            wait_presented(both.client, next_client)
            wait_presented(both.server, next_server)
    load.check(least=LEAST_REQUESTS * 2)
    assert len(load.connections) <= 2, "kept connections were closed between the Envoys"


def test_a_successor_goes_on_from_files(mesh: Mesh) -> None:
    """From files the successor serves the same certificate, and Envoy changes nothing."""
    kept = {"output_directory": os.fspath(mesh.directory / "certs")}
    plan = mesh.plan(SERVER, workload=kept)
    bootstrap = server_of("server-envoy", free_address(), [], mesh.sds(SERVER))
    with agent.running(plan) as first, envoy.running(bootstrap, mesh.directory) as running:
        running.wait_live()
        held, contexts = first.serial(), running.total(CONTEXTS)
        _die(first, running)
        with agent.running(plan) as second:
            assert second.wait_for("certificate restored from files")["serial"] == held
            second.wait_for("secrets sent", 2)
            assert running.serials() == {held}
            assert running.total(CONTEXTS) == contexts
            assert not second.lines("certificate obtained")
