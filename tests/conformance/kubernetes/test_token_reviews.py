"""Callers proven by a real API server, through Istio's own client and one that may lie.

What happens while the API server or its store is away is in test_api_server_away.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.conformance.caller import Header, Outcome, call
from tests.conformance.istio_client import IstioClient
from tests.conformance.kubernetes.admin import Pod
from tests.conformance.kubernetes.cluster import (
    DEFAULT_ISSUER,
    ControlPlane,
    Options,
    control_plane,
)
from tests.conformance.kubernetes.served import Member, Served, served
from tests.conformance.kubernetes.tokens import forge

SPACE = "reviewed"
BAR = f"spiffe://cluster.local/ns/{SPACE}/sa/bar"
REFUSED = "request authenticate failure"  # istiod's text
# Our cache of the test's server, what the API server itself remembers, and a margin.
REFUSED_WITHIN_S = 1.0 + 10.0 + 4.0
ISTIO_CASES = (
    "issue-p256",
    "issue-rsa2048",
    "issue-default-lifetime",
    "issue-with-foreign-headers",
    "same-csr-twice",
    "agent-secret",
    "mutual-tls",
    "refuse-no-token",
    "refuse-expired",
    "refuse-wrong-audience",
    "refuse-foreign-san",
    "recovers-after-refusal",
    "tls",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A server that proves callers of one cluster.

    Attributes:
        served: The server.
        cluster: The cluster.
        pod: A pod of `bar` on a node.
        token: Its token.
    """

    served: Served
    cluster: ControlPlane
    pod: Pod
    token: str

    def ask(self, *headers: Header, identity: str = BAR) -> Outcome:
        """Ask for a certificate with headers."""
        return call(self.served.server.listen, self.served.roots, identity, headers=headers)

    def show(self, token: str, identity: str = BAR, cluster_id: str = "Kubernetes") -> Outcome:
        """Ask with a token."""
        return self.ask(*bearer(token), ("clusterid", cluster_id), identity=identity)


def bearer(*tokens: str) -> list[Header]:
    """Return authorization values."""
    return [("authorization", f"Bearer {token}") for token in tokens]


@pytest.fixture(scope="module")
def world(
    kubernetes: ControlPlane, command: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Run a server by token reviews."""
    admin = kubernetes.admin
    admin.create_namespace(SPACE)
    admin.create_node("reviewed-1")
    for account in ("bar", "peer", "gone"):
        admin.create_service_account(SPACE, account)
    pod = admin.create_pod(SPACE, "bar-0", "bar", node="reviewed-1", phase="Running")
    member = Member(
        cluster_id="Kubernetes",
        cluster=kubernetes,
        settings={"local": True, "aliases": ["alias"]},
        review={"cache": "1s"},
    )
    with served(command, tmp_path_factory.mktemp("reviewed"), member) as server:
        token = admin.token(SPACE, "bar", pod=pod)
        yield World(served=server, cluster=kubernetes, pod=pod, token=token)


def test_statement_35_istios_client_with_tokens_of_pods(world: World, tmp_path: Path) -> None:
    """Every case of Istio's own client holds with tokens that the API server made."""
    admin = world.cluster.admin
    peer = admin.create_pod(SPACE, "peer-0", "peer", node="reviewed-1", phase="Running")
    texts = {
        "valid": world.token,
        "peer": admin.token(SPACE, "peer", pod=peer),
        "expired": forge(world.cluster, world.token, exp=int(time.time()) - 300),
        "wrong-audience": admin.token(SPACE, "bar", pod=world.pod, audiences=("vault",)),
    }
    for role, text in texts.items():
        (tmp_path / role).write_text(text)
    root = tmp_path / "root.pem"
    root.write_bytes(world.served.roots)
    client = IstioClient(
        server=world.served.server.listen,
        root=root,
        tokens={role: tmp_path / role for role in texts},
    )
    reports = client.run(*ISTIO_CASES)
    assert {name: one.error for name, one in reports.items() if not one.ok} == {}
    assert set(reports) == set(ISTIO_CASES)
    assert reports["refuse-expired"].attempts == 1


def test_statement_35_pod_and_node_come_from_the_review(world: World) -> None:
    """The inventory tells which pod was given a certificate, and on which node."""
    outcome = world.show(world.token)
    assert (outcome.code, outcome.identity) == (grpc.StatusCode.OK, BAR)
    (row,) = [
        row for row in world.served.rows() if int(row["serial"], 16) == int(outcome.serial, 16)
    ]
    assert (row["pod_name"], row["pod_uid"]) == ("bar-0", world.pod.uid)
    assert row["node_name"] == "reviewed-1"


@pytest.mark.parametrize("named", [None, "", "Kubernetes", "alias"])
def test_statement_37_the_local_cluster_has_several_names(world: World, named: str | None) -> None:
    """No id, an empty one, its own and its alias all mean it."""
    headers = bearer(world.token) + ([("clusterid", named)] if named is not None else [])
    assert world.ask(*headers).code is grpc.StatusCode.OK


def test_statement_37_an_unknown_cluster_is_refused(world: World) -> None:
    """However good the token is."""
    outcome = world.show(world.token, cluster_id="elsewhere")
    assert (outcome.code, outcome.text) == (grpc.StatusCode.UNAUTHENTICATED, REFUSED)


def test_statement_38_one_bearer_token_among_other_credentials(world: World) -> None:
    """Other schemes beside it are ignored; alone they prove nobody."""
    others: list[Header] = [("authorization", "Basic Zm9vOmJhcg=="), ("authorization", "x")]
    assert world.ask(*others, *bearer(world.token)).code is grpc.StatusCode.OK
    assert world.ask(*others).code is grpc.StatusCode.UNAUTHENTICATED


def test_statement_35_only_what_the_api_server_takes_is_taken(
    world: World, other_kubernetes: ControlPlane
) -> None:
    """Another cluster's token, an unbound one of a deleted account, and forged ones."""
    other = other_kubernetes.admin
    other.create_namespace(SPACE)
    other.create_service_account(SPACE, "bar")
    gone = world.cluster.admin.token(SPACE, "gone")
    world.cluster.admin.delete_service_account(SPACE, "gone")
    forged: Mapping[str, str] = {
        "other cluster": other.token(SPACE, "bar"),
        "signed by another": forge(other_kubernetes, world.token),
        "account that is gone": gone,
        "never was": forge(world.cluster, world.token, sub=f"system:serviceaccount:{SPACE}:x"),
        "expired": forge(world.cluster, world.token, exp=int(time.time()) - 300),
        "from tomorrow": forge(
            world.cluster, world.token, iat=int(time.time()) + 9_000, nbf=int(time.time()) + 9_000
        ),
        "other issuer": forge(world.cluster, world.token, iss="https://elsewhere.example"),
        "no token": "nonsense",
    }
    outcomes = {what: world.show(token) for what, token in forged.items()}
    codes = {what: outcome.code for what, outcome in outcomes.items()}
    assert codes == dict.fromkeys(forged, grpc.StatusCode.UNAUTHENTICATED)
    assert {outcome.text for outcome in outcomes.values()} == {REFUSED}


def test_statement_35_what_is_deleted_is_refused(world: World) -> None:
    """Pod and account, within our cache and the API server's own; their namesakes too."""
    admin = world.cluster.admin
    admin.create_service_account(SPACE, "brief")
    identity = f"spiffe://cluster.local/ns/{SPACE}/sa/brief"
    pod = admin.create_pod(SPACE, "short-0", "bar", node="reviewed-1", phase="Running")
    of_pod, of_account = admin.token(SPACE, "bar", pod=pod), admin.token(SPACE, "brief")
    asks = [partial(world.show, of_pod), partial(world.show, of_account, identity)]
    assert [ask().code for ask in asks] == [grpc.StatusCode.OK] * 2
    admin.delete_pod(SPACE, "short-0")
    admin.delete_service_account(SPACE, "brief")
    deadline = time.monotonic() + REFUSED_WITHIN_S
    for ask in asks:
        refused_by(deadline, ask)
    again = admin.create_pod(SPACE, "short-0", "bar", node="reviewed-1", phase="Running")
    admin.create_service_account(SPACE, "brief")
    assert [ask().code for ask in asks] == [grpc.StatusCode.UNAUTHENTICATED] * 2
    assert world.show(admin.token(SPACE, "bar", pod=again)).code is grpc.StatusCode.OK


def refused_by(deadline: float, ask: Callable[[], Outcome]) -> None:
    """Ask until it is refused; until then it is answered, and nothing else happens."""
    while (outcome := ask()).code is grpc.StatusCode.OK:
        assert time.monotonic() < deadline, "still let in"
        time.sleep(0.25)
    assert (outcome.code, outcome.text) == (grpc.StatusCode.UNAUTHENTICATED, REFUSED)


def test_statement_35_keys_from_the_api_server(
    kubernetes: ControlPlane, command: Path, tmp_path: Path, world: World
) -> None:
    """The mode without calls takes the cluster's own keys, and does not see that a pod is gone."""
    admin = kubernetes.admin
    kubeconfig = kubernetes.kubeconfig(
        tmp_path / "keys.kubeconfig", token=admin.token(SPACE, "peer", audiences=())
    )
    keys = {"type": "jwks", "issuer": DEFAULT_ISSUER, "kubeconfig": str(kubeconfig)}
    member = Member(
        cluster_id="Kubernetes", cluster=kubernetes, settings={"authenticators": [keys]}
    )
    pod = admin.create_pod(SPACE, "unseen-0", "bar", node="reviewed-1", phase="Running")
    token = admin.token(SPACE, "bar", pod=pod)
    admin.delete_pod(SPACE, "unseen-0")
    folder = tmp_path / "server"
    folder.mkdir()
    with served(command, folder, member) as server:
        by_keys = World(served=server, cluster=kubernetes, pod=pod, token=token)
        assert by_keys.show(token).code is grpc.StatusCode.OK
        wrong = admin.token(SPACE, "bar", audiences=("vault",))
        assert by_keys.show(wrong).code is grpc.StatusCode.UNAUTHENTICATED
        late = forge(kubernetes, token, exp=int(time.time()) - 300)
        assert by_keys.show(late).code is grpc.StatusCode.UNAUTHENTICATED
    assert world.show(token).code is grpc.StatusCode.UNAUTHENTICATED


def test_statement_35_keys_by_discovery(command: Path, tmp_path: Path) -> None:
    """An API server whose issuer is its own URL is asked as any OIDC issuer would be."""
    for name in ("cluster", "server"):
        (tmp_path / name).mkdir()
    with control_plane(tmp_path / "cluster", Options(issuer="", controllers=False)) as cluster:
        cluster.admin.create_namespace(SPACE)
        cluster.admin.create_service_account(SPACE, "bar")
        token_file = tmp_path / "token"
        token_file.write_text(cluster.admin.token(SPACE, "bar", audiences=()))
        keys = {
            "type": "jwks",
            "issuer": cluster.server,
            "ca_file": str(cluster.authority.roots),
            "token_file": str(token_file),
        }
        member = Member(
            cluster_id="Kubernetes", cluster=cluster, settings={"authenticators": [keys]}
        )
        pod = cluster.admin.create_pod(SPACE, "bar-0", "bar")
        token = cluster.admin.token(SPACE, "bar", pod=pod)
        with served(command, tmp_path / "server", member) as server:
            world = World(served=server, cluster=cluster, pod=pod, token=token)
            assert world.show(token).code is grpc.StatusCode.OK
            foreign = forge(cluster, token, iss=DEFAULT_ISSUER)
            assert world.show(foreign).code is grpc.StatusCode.UNAUTHENTICATED
