"""A second real cluster is added, changed and removed by a Secret in the first one."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.conformance.caller import Outcome, call, call_over
from tests.conformance.kubernetes.admin import CORE, Admin
from tests.conformance.kubernetes.cluster import DEFAULT_ISSUER, ControlPlane
from tests.conformance.kubernetes.served import ACCOUNT, SYSTEM, Member, Served, admit, served

SECRETS = "meshsigner-remotes"
SPACE, FORBIDDEN = "shared-space", "not-theirs"
LABELS = {"istio/multiCluster": "true"}
SEEN_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A server in one cluster that may serve others.

    Attributes:
        served: The server.
        local: The cluster with the Secrets.
        remote: The other one.
    """

    served: Served
    local: ControlPlane
    remote: ControlPlane

    def show(self, token: str, cluster_id: str, namespace: str = SPACE) -> Outcome:
        """Ask with a token."""
        headers = [("authorization", f"Bearer {token}"), ("clusterid", cluster_id)]
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/bar"
        return call(self.served.server.listen, self.served.roots, identity, headers=headers)

    def act(self, token: str, account: str) -> Outcome:
        """Ask for another one's certificate as ztunnel of the remote cluster does."""
        headers = [("authorization", f"Bearer {token}"), ("clusterid", "second")]
        identity = f"spiffe://cluster.local/ns/{SPACE}/sa/{account}"
        credentials = grpc.ssl_channel_credentials(self.served.roots)
        with grpc.secure_channel(self.served.server.listen, credentials) as channel:
            return call_over(channel, identity, headers, impersonated=identity)

    def put(self, name: str, kubeconfigs: Mapping[str, Any]) -> None:
        """Write a Secret anew."""
        self.drop(name)
        texts = {cluster: json.dumps(document) for cluster, document in kubeconfigs.items()}
        self.local.admin.create_secret(SECRETS, name, texts, LABELS)

    def drop(self, name: str) -> None:
        """Remove a Secret if it is there."""
        path = f"{CORE}/namespaces/{SECRETS}/secrets/{name}"
        if self.local.admin.exists(path):
            self.local.admin.delete(path)

    def until(self, code: grpc.StatusCode, ask: Callable[[], Outcome]) -> Outcome:
        """Ask until the answer is of a kind."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while (outcome := ask()).code is not code:
            assert time.monotonic() < deadline, outcome
            time.sleep(0.1)
        return outcome

    def refused(self, text: str) -> None:
        """Wait until the log says that a Secret is refused."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while not any(
            text in problem
            for line in self.served.lines("remote clusters refused")
            for problem in line["problems"]
        ):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)


def prepare(admin: Admin) -> None:
    """Make the namespaces and accounts that both clusters have."""
    for namespace in (SPACE, FORBIDDEN):
        admin.create_namespace(namespace)
        admin.create_service_account(namespace, "bar")


def allow_secrets(admin: Admin) -> None:
    """Let the server read the Secrets of that one namespace."""
    rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SECRETS}"
    admin.create(f"{rbac}/roles", {"metadata": {"name": "remotes"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "namespace": SYSTEM, "name": ACCOUNT}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "remotes"}
    admin.create(
        f"{rbac}/rolebindings",
        {"metadata": {"name": "remotes"}, "subjects": [subject], "roleRef": role},
    )


@pytest.fixture(scope="module")
def world(
    kubernetes: ControlPlane,
    other_kubernetes: ControlPlane,
    command: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Run a server that allows two remote clusters by reviews and two by keys."""
    prepare(kubernetes.admin)
    prepare(other_kubernetes.admin)
    kubernetes.admin.create_namespace(SECRETS)
    folder = tmp_path_factory.mktemp("remotes")
    token = admit(kubernetes.admin)
    allow_secrets(kubernetes.admin)
    kubeconfig = kubernetes.kubeconfig(folder / "secrets.kubeconfig", token=token)
    keys = [{"type": "jwks", "issuer": DEFAULT_ISSUER}]
    agents = {"accounts": [f"{FORBIDDEN}/ztunnel", f"{SPACE}/ztunnel"]}
    stated = {"trust_domain": "cluster.local", "namespaces": [SPACE]}
    allowed = [
        {"id": "cluster-2", "aliases": ["second"], "node_authorization": agents, **stated},
        {"id": "keys-2", "authenticators": keys, **stated},
        {"id": "keys-3", "authenticators": keys, **stated},
    ]
    remote = {"namespace": SECRETS, "kubeconfig": str(kubeconfig), "allowed": allowed}
    member = Member(
        cluster_id="Kubernetes",
        cluster=kubernetes,
        settings={"local": True, "aliases": ["alias"]},
        review={"cache": "0s"},
    )
    with served(command, folder, member, sections={"remote_clusters": remote}) as server:
        yield World(served=server, local=kubernetes, remote=other_kubernetes)


def reader(cluster: ControlPlane) -> dict[str, Any]:
    """Return a kubeconfig with a token that may review tokens there."""
    return cluster.kubeconfig_document({"token": admit(cluster.admin)})


def test_statement_37_a_remote_cluster_comes_changes_and_goes(world: World) -> None:
    """Served soon after its Secret, with a renewed credential too; refused once it is gone."""
    theirs, ours = world.remote.admin.token(SPACE, "bar"), world.local.admin.token(SPACE, "bar")
    unavailable = grpc.StatusCode.UNAVAILABLE
    refused = grpc.StatusCode.UNAUTHENTICATED
    world.until(refused, lambda: world.show(theirs, "cluster-2"))
    world.put("remote-2", {"cluster-2": reader(world.remote)})
    world.until(grpc.StatusCode.OK, lambda: world.show(theirs, "cluster-2"))
    assert world.show(theirs, "second").code is grpc.StatusCode.OK
    # Each cluster proves its own callers and nobody else's.
    assert world.show(theirs, "Kubernetes").code is refused
    assert world.show(ours, "cluster-2").code is refused
    assert world.show(ours, "Kubernetes").code is grpc.StatusCode.OK
    # It speaks for the namespaces that the configuration states.
    outside = world.remote.admin.token(FORBIDDEN, "bar")
    assert world.show(outside, "cluster-2", FORBIDDEN).code is refused
    # A credential that has gone bad is our fault, and a new one mends it.
    world.put("remote-2", {"cluster-2": world.remote.kubeconfig_document({"token": "bad"})})
    again = world.remote.admin.token(SPACE, "bar")
    world.until(
        unavailable, lambda: world.show(world.remote.admin.token(SPACE, "bar"), "cluster-2")
    )
    world.put("remote-2", {"cluster-2": reader(world.remote)})
    world.until(grpc.StatusCode.OK, lambda: world.show(again, "cluster-2"))
    world.drop("remote-2")
    world.until(refused, lambda: world.show(theirs, "cluster-2"))
    events = [line["event"] for line in log(world) if line.get("cluster") == "cluster-2"]
    assert events[0] == "remote cluster added"
    assert events[-1] == "remote cluster removed"


def test_statement_43_an_agent_of_a_remote_cluster_acts_within_its_own(world: World) -> None:
    """For the pods of its node there, while the cluster is served; for nobody of ours."""
    admin = world.remote.admin
    for name in ("ztunnel", "app"):
        admin.create_service_account(SPACE, name)
        admin.create_pod(SPACE, f"{name}-0", name, node="remote-1", phase="Running")
    world.local.admin.create_service_account(SPACE, "ours")
    world.local.admin.create_pod(SPACE, "ours-0", "ours", node="remote-1", phase="Running")
    agent = admin.create_pod(SPACE, "ztunnel-1", "ztunnel", node="remote-1", phase="Running")
    token = admin.token(SPACE, "ztunnel", pod=agent)
    world.put("remote-2", {"cluster-2": reader(world.remote)})
    world.until(grpc.StatusCode.OK, lambda: world.act(token, "app"))
    assert world.act(token, "app").identity == f"spiffe://cluster.local/ns/{SPACE}/sa/app"
    assert world.act(token, "ours").code is grpc.StatusCode.UNAUTHENTICATED
    world.drop("remote-2")
    world.until(grpc.StatusCode.UNAUTHENTICATED, lambda: world.act(token, "app"))


def log(world: World) -> list[Mapping[str, Any]]:
    """Return the lines that tell of remote clusters."""
    lines = [json.loads(line) for line in world.served.server.log.read_text().splitlines()]
    return [line for line in lines if line["event"].startswith("remote cluster ")]


def with_cluster(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a kubeconfig with something else in its cluster."""
    cluster = {**document["clusters"][0]["cluster"], **changes}
    return {**document, "clusters": [{"name": "test", "cluster": cluster}]}


def with_user(document: dict[str, Any], **user: Any) -> dict[str, Any]:
    """Return a kubeconfig with another user."""
    return {**document, "users": [{"name": "test", "user": user}]}


def test_kubeconfigs_that_could_harm_us_are_refused(world: World, tmp_path: Path) -> None:
    """Nothing in them is run or read; callers are told that the fault is ours."""
    good = reader(world.remote)
    proof = tmp_path / "ran"
    program = {"command": "touch", "args": [str(proof)], "apiVersion": "v1"}
    bad = {
        "user sets 'exec'": with_user(good, exec=program),
        "user sets 'auth-provider'": with_user(good, **{"auth-provider": {"name": "gcp"}}),
        "user sets 'tokenFile'": with_user(good, tokenFile="/etc/hostname"),
        "user sets 'client-key'": with_user(good, **{"client-key": "/etc/hostname"}),
        "user sets 'as'": with_user(good, token="a", **{"as": "system:admin"}),
        "cluster sets 'proxy-url'": with_cluster(good, **{"proxy-url": "http://127.0.0.1:1"}),
        "cluster sets 'certificate-authority'": with_cluster(
            good, **{"certificate-authority": "/etc/hostname"}
        ),
        "cluster sets 'insecure-skip-tls-verify'": with_cluster(
            good, **{"insecure-skip-tls-verify": True}
        ),
        "server is not an https URL": with_cluster(good, server="http://127.0.0.1:1"),
        "the server's CA must be in it": with_cluster(good, **{"certificate-authority-data": None}),
    }
    token = world.remote.admin.token(SPACE, "bar")
    for problem, document in bad.items():
        world.put("harmful", {"cluster-2": document})
        world.refused(problem)
        assert world.show(token, "cluster-2").code is grpc.StatusCode.UNAVAILABLE
    world.drop("harmful")
    assert not proof.exists()


def test_statement_37_no_secret_takes_the_place_of_the_local_cluster(world: World) -> None:
    """Neither under its id nor under its alias, nor under an id that nobody allowed."""
    theirs, ours = world.remote.admin.token(SPACE, "bar"), world.local.admin.token(SPACE, "bar")
    names = ("Kubernetes", "alias", "cluster-9")
    world.put("usurper", {name: reader(world.remote) for name in names})
    world.refused("cluster 'Kubernetes' is configured, and no Secret can take its place")
    world.refused("cluster 'alias' is configured, and no Secret can take its place")
    world.refused("cluster 'cluster-9' is not among remote_clusters.allowed")
    for name in names:
        assert world.show(theirs, name).code is grpc.StatusCode.UNAUTHENTICATED
    assert world.show(ours, "alias").code is grpc.StatusCode.OK
    world.drop("usurper")


def test_a_key_of_two_clusters_is_refused(world: World) -> None:
    """The same API server under two ids: a token of one would pass for the other."""
    theirs = world.remote.admin.token(SPACE, "bar")
    world.put("first", {"keys-2": reader(world.remote)})
    world.until(grpc.StatusCode.OK, lambda: world.show(theirs, "keys-2"))
    world.put("second", {"keys-3": reader(world.remote)})
    world.refused("belongs to another cluster, and clusters share no keys")
    assert world.show(theirs, "keys-3").code is grpc.StatusCode.UNAVAILABLE
    assert world.show(theirs, "keys-2").code is grpc.StatusCode.OK
    world.drop("first")
    world.until(grpc.StatusCode.OK, lambda: world.show(theirs, "keys-3"))
    assert world.show(theirs, "keys-2").code is grpc.StatusCode.UNAUTHENTICATED
    world.drop("second")


def test_no_credential_of_a_cluster_is_in_the_log(world: World) -> None:
    """Whatever was refused, its tokens were not quoted."""
    text = world.served.server.log.read_text()
    assert "eyJ" not in text
    assert "LS0tLS1CRUdJTi" not in text  # base64 of a PEM's first line
