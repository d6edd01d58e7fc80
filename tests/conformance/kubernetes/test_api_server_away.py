"""An API server that is away, hangs or refuses us is never the fault of a caller.

Each test breaks a cluster of its own and mends it again; while it is broken no answer is
UNAUTHENTICATED.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.conformance.caller import Outcome, call
from tests.conformance.istio_client import IstioClient
from tests.conformance.kubernetes.admin import Pod
from tests.conformance.kubernetes.cluster import ControlPlane, Options, control_plane
from tests.conformance.kubernetes.flow_control import turned_away
from tests.conformance.kubernetes.served import ACCOUNT, SYSTEM, Member, Served, admit, served

SPACE = "away"
BAR = f"spiffe://cluster.local/ns/{SPACE}/sa/bar"
WAIT_S = 40.0
STORM = 16  # callers at once
FOREIGN = "UNAUTHENTICATED for a fault that is not the caller's"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A server and a cluster that is broken by tests.

    Attributes:
        served: The server.
        cluster: The cluster.
        pod: A pod on a node.
    """

    served: Served
    cluster: ControlPlane
    pod: Pod

    def show(self, token: str) -> Outcome:
        """Ask with a token."""
        headers = [("authorization", f"Bearer {token}"), ("clusterid", "Kubernetes")]
        return call(self.served.server.listen, self.served.roots, BAR, headers=headers)

    def fresh(self) -> str:
        """Return a token that nobody has shown yet; the API server must be there for this."""
        return self.cluster.admin.token(SPACE, "bar", pod=self.pod)

    def until(self, code: grpc.StatusCode, token: Callable[[], str]) -> Outcome:
        """Ask until the answer is of a kind, and never UNAUTHENTICATED."""
        deadline = time.monotonic() + WAIT_S
        while (outcome := self.show(token())).code is not code:
            assert outcome.code is not grpc.StatusCode.UNAUTHENTICATED, FOREIGN
            assert time.monotonic() < deadline, outcome
            time.sleep(0.2)
        return outcome

    def readiness(self) -> tuple[int, str]:
        """Return the status of the readiness probe and all that it says."""
        connection = http.client.HTTPConnection(self.served.server.admin, timeout=5.0)
        try:
            connection.request("GET", "/healthz/ready")
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def until_readiness(self, status: int, text: str) -> None:
        """Wait until the readiness probe says something."""
        deadline = time.monotonic() + WAIT_S
        while (said := self.readiness())[0] != status or text not in said[1]:
            assert time.monotonic() < deadline, said
            time.sleep(0.2)


@pytest.fixture(scope="module")
def world(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run a server and a cluster of its own."""
    folder = tmp_path_factory.mktemp("away")
    (folder / "cluster").mkdir()
    with control_plane(folder / "cluster", Options(controllers=False)) as cluster:
        admin = cluster.admin
        admin.create_namespace(SPACE)
        admin.create_service_account(SPACE, "bar")
        admin.create_node("away-1")
        pod = admin.create_pod(SPACE, "bar-0", "bar", node="away-1", phase="Running")
        review = {"cache": "1s", "timeout": "1s"}
        member = Member(cluster_id="Kubernetes", cluster=cluster, review=review)
        with served(command, folder, member) as server:
            yield World(served=server, cluster=cluster, pod=pod)


@pytest.fixture(autouse=True)
def whole_again(world: World) -> Iterator[None]:
    """Let each test begin and end with everything in order."""
    assert world.show(world.fresh()).code is grpc.StatusCode.OK
    yield
    world.until(grpc.StatusCode.OK, world.fresh)
    world.until_readiness(200, "")


def test_statement_16_api_server_stopped(world: World, tmp_path: Path) -> None:
    """Istio's client makes all its attempts; readiness says why; all works again afterwards."""
    token = world.fresh()
    world.cluster.api_server.stop()
    try:
        assert world.show(token).code is grpc.StatusCode.UNAVAILABLE
        (tmp_path / "token").write_text(token)
        (tmp_path / "root").write_bytes(world.served.roots)
        client = IstioClient(
            server=world.served.server.listen,
            root=tmp_path / "root",
            tokens={"valid": tmp_path / "token"},
        )
        report = client.run("unavailable")["unavailable"]
        assert report.ok, report.error
        assert report.attempts == 5
        world.until_readiness(503, "authn/Kubernetes/token_review")
        assert "ClientConnectorError" in world.readiness()[1]
    finally:
        world.cluster.start_api_server()
    world.until(grpc.StatusCode.OK, lambda: token)


def test_statement_16_api_server_frozen(world: World) -> None:
    """Connections stay open and nothing is answered: UNAVAILABLE within our bound."""
    token = world.fresh()
    world.cluster.api_server.freeze()
    try:
        began_s = time.monotonic()
        assert world.show(token).code is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began_s < 3.0
        world.until_readiness(503, "within 1 s")
    finally:
        world.cluster.api_server.thaw()
    world.until(grpc.StatusCode.OK, lambda: token)


def test_statement_16_store_of_the_api_server_stopped(world: World) -> None:
    """Pods that it knows are proven; one that it cannot look up is neither proven nor refused."""
    admin = world.cluster.admin
    pod = admin.create_pod(SPACE, "gone-0", "bar", node="away-1", phase="Running")
    token, known = admin.token(SPACE, "bar", pod=pod), world.fresh()
    admin.delete_pod(SPACE, "gone-0")
    world.cluster.etcd.stop()
    try:
        assert world.show(known).code is grpc.StatusCode.OK
        for _ in range(3):
            assert world.show(token).code is grpc.StatusCode.UNAVAILABLE
        world.until_readiness(200, "")
        deadline = time.monotonic() + WAIT_S
        while not world.served.lines("API server not ready, doubtful refusals are not believed"):
            assert time.monotonic() < deadline
            assert world.show(token).code is grpc.StatusCode.UNAVAILABLE
    finally:
        world.cluster.start_etcd()
    outcome = world.show(token)
    deadline = time.monotonic() + WAIT_S
    while outcome.code is grpc.StatusCode.UNAVAILABLE:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        outcome = world.show(token)
    assert outcome.code is grpc.StatusCode.UNAUTHENTICATED  # now it is known to be gone


def test_statement_16_api_server_turns_us_away(world: World) -> None:
    """A storm of 429 with Retry-After: UNAVAILABLE, and all works when it is over."""
    user = f"system:serviceaccount:{SYSTEM}:{ACCOUNT}"
    seen: set[grpc.StatusCode] = set()
    deadline = time.monotonic() + WAIT_S
    with turned_away(world.cluster.admin, user), ThreadPoolExecutor(STORM) as pool:
        while grpc.StatusCode.UNAVAILABLE not in seen:
            tokens = [world.fresh() for _ in range(STORM)]
            seen |= {outcome.code for outcome in pool.map(world.show, tokens)}
            assert grpc.StatusCode.UNAUTHENTICATED not in seen, FOREIGN
            assert time.monotonic() < deadline, seen
    calls = world.served.lines("create certificate")
    assert any("status 429, it asked us to wait" in line.get("cause", "") for line in calls)
    world.until(grpc.StatusCode.OK, world.fresh)


def test_statement_16_our_own_credential_is_refused(world: World) -> None:
    """A kubeconfig whose token has gone bad is a fault of ours, mended by a new one in place."""
    path = world.served.folder / "Kubernetes.kubeconfig"
    good = path.read_text()
    document = json.loads(good)
    document["users"][0]["user"]["token"] = "nobody"
    path.write_text(json.dumps(document))
    try:
        assert world.show(world.fresh()).code is grpc.StatusCode.UNAVAILABLE
        world.until_readiness(503, "our own credential was refused")
        path.write_text("neither YAML: nor: anything")
        assert world.show(world.fresh()).code is grpc.StatusCode.UNAVAILABLE
    finally:
        world.cluster.kubeconfig(path, token=admit(world.cluster.admin))
    assert world.show(world.fresh()).code is grpc.StatusCode.OK
    assert world.served.lines("new kubeconfig refused, the one in use is kept")
