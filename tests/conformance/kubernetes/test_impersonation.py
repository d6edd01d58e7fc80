"""ztunnel's requests, at a real API server: whom a node's agent may ask for, and whom not.

Pods are bound, moved and deleted by the tests; there is no scheduler and no kubelet. Names begin
with this file's own namespaces, for other tests use the same clusters.
"""

import os
import signal
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.conformance.caller import Outcome, call_over
from tests.conformance.kubernetes.admin import Admin, Pod
from tests.conformance.kubernetes.cluster import ControlPlane, Options, control_plane
from tests.conformance.kubernetes.served import Member, Served, served

AGENTS, APPS = "ambient-system", "ambient-apps"
ZTUNNEL = "ztunnel"
NODE, OTHER_NODE = "ambient-1", "ambient-2"
REFUSED = "request impersonation authentication failure"  # istiod's text
NODES = {"node_authorization": {"accounts": [f"{AGENTS}/{ZTUNNEL}"]}}
WITHIN_S = 0.2  # from the binding to the answer, once per node and pod start
_LONG_S = 60.0


def identity(account: str, namespace: str = APPS, trust_domain: str = "cluster.local") -> str:
    """Return a SPIFFE ID."""
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """ztunnel on one node, with a connection to the server.

    Attributes:
        channel: The connection.
        token: Its token.
        cluster_id: What it sends as `clusterid`; None sends no header.
    """

    channel: grpc.Channel
    token: str
    cluster_id: str | None = "Kubernetes"

    def ask(self, impersonated: str, named: str = "") -> Outcome:
        """Ask for a workload's certificate.

        Args:
            impersonated: Whom it asks for.
            named: Whom the CSR names instead.
        """
        headers = [("authorization", f"Bearer {self.token}")]
        if self.cluster_id is not None:
            headers.append(("clusterid", self.cluster_id))
        return call_over(self.channel, named or impersonated, headers, impersonated=impersonated)

    def wait_for(self, impersonated: str, code: grpc.StatusCode) -> Outcome:
        """Ask until the answer is of a kind.

        Raises:
            AssertionError: It never was.
        """
        deadline = time.monotonic() + _LONG_S
        while (outcome := self.ask(impersonated)).code is not code:
            assert time.monotonic() < deadline, outcome
            time.sleep(0.05)
        return outcome


def prepare(admin: Admin, *apps: str) -> None:
    """Make the namespaces and accounts of this file."""
    for namespace, accounts in ((AGENTS, [ZTUNNEL]), (APPS, apps)):
        admin.create_namespace(namespace)
        for account in accounts:
            admin.create_service_account(namespace, account)


def agent_token(admin: Admin, node: str) -> str:
    """Start ztunnel on a node and return its token."""
    pod = admin.create_pod(AGENTS, f"{ZTUNNEL}-{node}", ZTUNNEL, node=node, phase="Running")
    return admin.token(AGENTS, ZTUNNEL, pod=pod)


def run(admin: Admin, account: str, node: str = NODE, *, name: str = "") -> Pod:
    """Start a pod of an account on a node."""
    return admin.create_pod(APPS, name or f"{account}-0", account, node=node, phase="Running")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Two clusters and a server for both.

    Attributes:
        served: The server.
        channel: A connection to it.
        admin: Administrator of the first cluster.
        west: Administrator of the second.
        tokens: Tokens of ztunnel, by cluster and node.
    """

    served: Served
    channel: grpc.Channel
    admin: Admin
    west: Admin
    tokens: dict[tuple[str, str], str]

    def agent(self, node: str = NODE, cluster: str = "Kubernetes") -> Agent:
        """Return ztunnel of a node."""
        token = self.tokens[cluster, node]
        return Agent(channel=self.channel, token=token, cluster_id=cluster)


def channel_to(server: Served) -> grpc.Channel:
    """Open a connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(server.roots)
    return grpc.secure_channel(server.server.listen, credentials, options=options)


@pytest.fixture(scope="module")
def world(
    command: Path,
    kubernetes: ControlPlane,
    other_kubernetes: ControlPlane,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Run a server for two clusters with ztunnel on two nodes of each, nodes of equal names."""
    admin, west = kubernetes.admin, other_kubernetes.admin
    crowd = [f"crowd-{number}" for number in range(16)]
    prepare(admin, "sleep", "httpbin", "late", "mover", "failing", "starting", *crowd)
    prepare(west, "sleep", "western")
    tokens = {
        (name, node): agent_token(one, node)
        for name, one in (("Kubernetes", admin), ("west", west))
        for node in (NODE, OTHER_NODE)
    }
    run(admin, "sleep")
    run(admin, "httpbin", OTHER_NODE)
    run(west, "western")
    for account in crowd:
        run(admin, account)
    review = {"cache": "1s"}
    members = (
        Member(
            cluster_id="Kubernetes",
            cluster=kubernetes,
            settings={"local": True, "aliases": ["east"], **NODES},
            review=review,
        ),
        Member(cluster_id="west", cluster=other_kubernetes, settings=NODES, review=review),
    )
    folder = tmp_path_factory.mktemp("impersonation")
    with served(command, folder, *members) as server, channel_to(server) as channel:
        yield World(served=server, channel=channel, admin=admin, west=west, tokens=tokens)


def _refused(outcome: Outcome) -> bool:
    return (outcome.code, outcome.text) == (grpc.StatusCode.UNAUTHENTICATED, REFUSED)


def test_statement_46_ztunnel_gets_the_workloads_certificate(world: World) -> None:
    """As ztunnel asks: P-256, empty subject, one URI; the row names workload, agent and node."""
    outcome = world.agent().ask(identity("sleep"))
    assert outcome.identity == identity("sleep"), outcome
    (row,) = [row for row in world.served.rows() if row["serial"] == outcome.serial]
    assert row["impersonator"] == identity(ZTUNNEL, AGENTS)
    assert (row["pod_name"], row["node_name"]) == (f"{ZTUNNEL}-{NODE}", NODE)


def test_statement_42_other_accounts_of_the_node_may_not_ask(world: World) -> None:
    """A workload that claims to act for its neighbour gets nothing."""
    pod = run(world.admin, "sleep", name="sleep-1")
    token = world.admin.token(APPS, "sleep", pod=pod)
    outcome = Agent(channel=world.channel, token=token).ask(identity("crowd-0"))
    assert _refused(outcome), outcome


def test_statement_42_a_token_that_is_bound_to_no_pod_may_not_ask(world: World) -> None:
    """The account alone says nothing of a node."""
    token = world.admin.token(AGENTS, ZTUNNEL)
    outcome = Agent(channel=world.channel, token=token).ask(identity("sleep"))
    assert _refused(outcome), outcome


def test_statement_43_a_workload_of_another_node_is_refused(world: World) -> None:
    """Each agent gets its own node's workloads and no other's."""
    assert _refused(world.agent().ask(identity("httpbin")))
    assert world.agent(OTHER_NODE).ask(identity("httpbin")).identity == identity("httpbin")
    assert _refused(world.agent(OTHER_NODE).ask(identity("sleep")))


def test_statement_43_a_pod_that_moves_takes_its_identity_along(world: World) -> None:
    """Deleted here and bound there: refused here, answered there."""
    run(world.admin, "mover")
    assert world.agent().ask(identity("mover")).identity == identity("mover")
    world.admin.delete_pod(APPS, "mover-0")
    run(world.admin, "mover", OTHER_NODE)
    assert world.agent(OTHER_NODE).ask(identity("mover")).identity == identity("mover")
    assert _refused(world.agent().wait_for(identity("mover"), grpc.StatusCode.UNAUTHENTICATED))


def test_statement_43_a_pod_that_has_ended_is_refused(world: World) -> None:
    """Failed and Succeeded pods need no certificate, the last live one keeps its account's."""
    run(world.admin, "failing")
    run(world.admin, "failing", name="failing-1")
    agent = world.agent()
    world.admin.set_phase(APPS, "failing-0", "Failed")
    assert agent.ask(identity("failing")).identity == identity("failing")
    world.admin.set_phase(APPS, "failing-1", "Succeeded")
    assert _refused(agent.wait_for(identity("failing"), grpc.StatusCode.UNAUTHENTICATED))


def test_statement_43_an_agent_whose_pod_is_gone_is_refused(world: World) -> None:
    """As soon as the pod is: its token lives on in the review's cache for a second."""
    node = "ambient-3"
    run(world.admin, "sleep", node, name="sleep-3")
    agent = Agent(channel=world.channel, token=agent_token(world.admin, node))
    assert agent.ask(identity("sleep")).identity == identity("sleep")
    world.admin.delete_pod(AGENTS, f"{ZTUNNEL}-{node}")
    outcome = agent.wait_for(identity("sleep"), grpc.StatusCode.UNAUTHENTICATED)
    assert outcome.text in {REFUSED, "request authenticate failure"}


def test_statement_43_a_new_pod_of_the_same_name_is_another_agent(world: World) -> None:
    """The UID is compared: an old token is not good for the pod that follows."""
    node = "ambient-4"
    run(world.admin, "sleep", node, name="sleep-4")
    old = Agent(channel=world.channel, token=agent_token(world.admin, node))
    assert old.ask(identity("sleep")).identity == identity("sleep")
    world.admin.delete_pod(AGENTS, f"{ZTUNNEL}-{node}")
    new = Agent(channel=world.channel, token=agent_token(world.admin, node))
    assert new.ask(identity("sleep")).identity == identity("sleep")
    outcome = old.wait_for(identity("sleep"), grpc.StatusCode.UNAUTHENTICATED)
    assert outcome.text in {REFUSED, "request authenticate failure"}


@pytest.mark.parametrize(
    "impersonated",
    [
        identity("sleep", trust_domain="other.local"),
        identity("sleep", trust_domain="Cluster.local"),
        identity("sleep") + "/more",
        f"spiffe://cluster.local/ns/{APPS}",
        "sleep",
    ],
)
def test_statement_44_only_identities_of_the_mesh_are_certified(
    world: World, impersonated: str
) -> None:
    """Another trust domain, which istiod would sign, and what is no service account."""
    outcome = world.agent().ask(impersonated, named=identity("sleep"))
    assert _refused(outcome), outcome


def test_a_csr_for_somebody_else_is_refused(world: World) -> None:
    """What is asked for and what the CSR names must be one."""
    outcome = world.agent().ask(identity("sleep"), named=identity(ZTUNNEL, AGENTS))
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT, outcome


def test_statement_43_each_cluster_has_its_own_nodes(world: World) -> None:
    """Nodes of equal names in two clusters are two nodes."""
    west = world.agent(cluster="west")
    assert west.ask(identity("western")).identity == identity("western")
    assert _refused(west.ask(identity("sleep")))
    assert _refused(world.agent().ask(identity("western")))


@pytest.mark.parametrize("cluster_id", [None, "", "east"])
def test_statement_43_the_local_cluster_is_found_by_every_name(
    world: World, cluster_id: str | None
) -> None:
    """No id, an empty one and an alias, where istiod's node authorisation fails."""
    agent = Agent(
        channel=world.channel, token=world.tokens["Kubernetes", NODE], cluster_id=cluster_id
    )
    assert agent.ask(identity("sleep")).identity == identity("sleep")


def test_several_accounts_from_one_node_at_once(world: World) -> None:
    """Sixteen identities over one connection: each gets its own, none another's."""
    agent, names = world.agent(), [identity(f"crowd-{number}") for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(agent.ask, names))
    assert [outcome.identity for outcome in outcomes] == names
    assert len({outcome.serial for outcome in outcomes}) == 16


def test_statement_45_a_pod_that_starts_is_answered_at_once(world: World) -> None:
    """From the moment the binding is visible: within 200 ms for most, refused never."""
    agent, took = world.agent(), []
    for number in range(12):
        name = f"starting-{number}"
        world.admin.create_pod(APPS, name, "starting")
        world.admin.bind_pod(APPS, name, NODE)
        began = time.perf_counter()
        outcome = agent.ask(identity("starting"))
        took.append(time.perf_counter() - began)
        assert outcome.identity == identity("starting"), outcome
        world.admin.delete_pod(APPS, name)
        agent.wait_for(identity("starting"), grpc.StatusCode.UNAUTHENTICATED)
    assert statistics.median(took) < WITHIN_S, took


def test_what_ended_is_looked_at_before_it_is_refused(world: World) -> None:
    """The refusals of this file say in the log why, and tell the caller nothing."""
    causes = {line["cause"] for line in world.served.lines("create certificate") if "cause" in line}
    assert any("no live pod of the asked account" in cause for cause in causes), causes


def test_an_api_server_that_is_away_refuses_nobody(command: Path, tmp_path: Path) -> None:
    """Frozen, and killed while changes pass unseen (410): never UNAUTHENTICATED for a live pod."""
    options = Options(controllers=False)
    for folder in ("cluster", "server"):
        (tmp_path / folder).mkdir()
    with control_plane(tmp_path / "cluster", options) as cluster:
        prepare(cluster.admin, "sleep", "late")
        token = agent_token(cluster.admin, NODE)
        run(cluster.admin, "sleep")
        member = Member(
            cluster_id="Kubernetes", cluster=cluster, settings=NODES, review={"cache": "5m"}
        )
        with (
            served(command, tmp_path / "server", member) as server,
            channel_to(server) as channel,
        ):
            agent = Agent(channel=channel, token=token)
            assert agent.ask(identity("sleep")).identity == identity("sleep")
            cluster.api_server.freeze()
            assert agent.ask(identity("sleep")).identity == identity("sleep")
            assert agent.ask(identity("late")).code is grpc.StatusCode.UNAVAILABLE
            cluster.api_server.thaw()
            _change_unseen(server, cluster)
            assert agent.wait_for(identity("late"), grpc.StatusCode.OK).identity
            assert _refused(agent.wait_for(identity("sleep"), grpc.StatusCode.UNAUTHENTICATED))
            lost = server.lines("watch lost, its objects are as they were")
            assert any("410" in line["problem"] for line in lost), lost


def _change_unseen(server: Served, cluster: ControlPlane) -> None:
    """Change pods while the server sleeps, and let the API server forget how it came to that."""
    group = os.getpgid(server.server.process.pid)
    os.killpg(group, signal.SIGSTOP)
    try:
        _restart(cluster)  # ends the watch: what follows waits in no socket's buffer
        cluster.admin.delete_pod(APPS, "sleep-0")
        run(cluster.admin, "late")
        _restart(cluster)  # remembers versions from here on
    finally:
        os.killpg(group, signal.SIGCONT)


def _restart(cluster: ControlPlane) -> None:
    cluster.api_server.kill()
    cluster.start_api_server()
