"""Which agents may ask for whom."""

import dataclasses
from typing import Any

import pytest

from meshsigner.authn.looks import FreshLooks
from meshsigner.authn.node import ClusterNodes, NodeAuthorizer, NodeRules
from meshsigner.authn.pods import Account, PodIndex
from meshsigner.errors import BackendUnavailable, ImpersonationRefused
from meshsigner.model import AuthMethod, Caller
from meshsigner.ports import Parked
from meshsigner.spiffe import TrustDomain, WorkloadId
from tests.fakes.authn import TRUST_DOMAIN
from tests.fakes.pipeline import NOW
from tests.fakes.pods import FakePodSource, fill, key_and_pod, make_pod

_AGENT = Account("istio-system", "ztunnel")
_RULES = NodeRules(cluster="Kubernetes", trust_domain=TRUST_DOMAIN, agents=frozenset({_AGENT}))
_ZTUNNEL = make_pod("zt-1", "node-1", "ztunnel", namespace="istio-system", uid="zt-uid")
_SLEEP = "spiffe://cluster.local/ns/foo/sa/sleep"
_OTHER = "spiffe://cluster.local/ns/foo/sa/other"
_CALLER = Caller(
    identity=WorkloadId.of(TRUST_DOMAIN, "istio-system", "ztunnel"),
    cluster="Kubernetes",
    auth_method=AuthMethod.TOKEN_REVIEW,
    pod_name="zt-1",
    pod_uid="zt-uid",
    node_name="node-1",
)


class _World:
    """One cluster: what the watch has told, and what the API server knows."""

    def __init__(self, rules: NodeRules = _RULES) -> None:
        self.index = fill(PodIndex(rules.agents), _ZTUNNEL, make_pod("sleep-1"))
        self.source = FakePodSource(_ZTUNNEL, make_pod("sleep-1"))
        self.nodes = ClusterNodes(
            rules, self.index, FreshLooks(rules.cluster, self.source, rules.agents)
        )

    def ask(
        self, impersonated: str = _SLEEP, caller: Caller = _CALLER, *, looked: bool = False
    ) -> WorkloadId | Parked:
        return self.nodes.authorize(caller, impersonated, looked=looked)

    async def settle(self, impersonated: str = _SLEEP, caller: Caller = _CALLER) -> WorkloadId:
        """Ask, look where that is needed, and ask again."""
        found = self.ask(impersonated, caller)
        if isinstance(found, Parked):
            await found.fetch()
            found = self.ask(impersonated, caller, looked=True)
        assert isinstance(found, WorkloadId)
        return found

    async def refusal(self, impersonated: str = _SLEEP, caller: Caller = _CALLER) -> str:
        with pytest.raises(ImpersonationRefused) as refused:
            await self.settle(impersonated, caller)
        return str(refused.value)


def _changed(**changes: Any) -> Caller:
    return dataclasses.replace(_CALLER, **changes)


async def test_an_agent_may_ask_for_a_workload_of_its_node() -> None:
    """At once, from the snapshot, and with exactly the identity it asked for."""
    world = _World()
    assert world.ask() == WorkloadId.parse(_SLEEP)
    assert not world.source.lists


async def test_the_node_is_taken_from_the_pod_where_the_credential_has_none() -> None:
    """Tokens of older clusters name no node."""
    assert _World().ask(caller=_changed(node_name="")) == WorkloadId.parse(_SLEEP)


async def test_an_agent_may_ask_for_itself() -> None:
    """Its own pod is on its node."""
    own = _CALLER.identity
    assert await _World().settle(own.uri) == own


async def test_statement_42_only_listed_accounts_may_ask() -> None:
    """Any other workload of the node is refused without a look."""
    world = _World()
    caller = _changed(identity=WorkloadId.of(TRUST_DOMAIN, "foo", "sleep"))
    assert "not one of a node's agent" in await world.refusal(caller=caller)
    assert not world.source.lists


@pytest.mark.parametrize("changes", [{"pod_uid": ""}, {"pod_name": ""}])
async def test_statement_42_the_token_must_be_bound_to_a_pod(changes: Any) -> None:
    """A token for an account alone, or a certificate, says nothing of a node."""
    world = _World()
    assert "not bound to a pod" in await world.refusal(caller=_changed(**changes))
    assert not world.source.lists


@pytest.mark.parametrize(
    "changes",
    [
        {"pod_uid": "uid-of-a-deleted-pod"},
        {"pod_name": "zt-2"},
        {"identity": WorkloadId.of(TRUST_DOMAIN, "istio-system", "other-agent")},
        {"node_name": "node-2"},
    ],
)
async def test_statement_43_the_agents_own_pod_must_be_what_its_token_says(changes: Any) -> None:
    """UID, name, account and node are those of a live pod."""
    agents = frozenset({_AGENT, Account("istio-system", "other-agent")})
    world = _World(dataclasses.replace(_RULES, agents=agents))
    refusal = await world.refusal(caller=_changed(**changes))
    assert "the pod of the caller's credential is not there" in refusal


async def test_statement_43_a_workload_of_another_node_is_refused() -> None:
    """After a fresh look, which asks for the caller's node alone."""
    world = _World()
    elsewhere = make_pod("other-1", "node-2", "other")
    fill(world.index, elsewhere)
    world.source.pods.append(elsewhere)
    assert "no live pod of the asked account" in await world.refusal(_OTHER)
    assert [fields for fields, _ in world.source.lists] == ["spec.nodeName=node-1"]


async def test_statement_43_a_pod_that_failed_moved_or_went_is_no_reason() -> None:
    """Each change of the index takes the right away."""
    world = _World()
    key, pod = key_and_pod(make_pod("other-1", account="other"))
    world.index.upsert(key, pod, None)
    assert (await world.settle(_OTHER)).uri == _OTHER
    world.index.upsert(key, dataclasses.replace(pod, node="node-2"), pod)
    assert "no live pod" in await world.refusal(_OTHER)
    world.source.pods.append(make_pod("other-1", account="other", phase="Failed"))
    assert "no live pod" in await world.refusal(_OTHER)


@pytest.mark.parametrize(
    ("impersonated", "cause"),
    [
        ("spiffe://other.domain/ns/foo/sa/sleep", "another trust domain"),
        ("spiffe://Cluster.local/ns/foo/sa/sleep", "no identity"),
        ("spiffe://cluster.local/ns/foo/sa/sleep/", "no identity"),
        ("spiffe://cluster.local/ns/foo", "no identity"),
        ("spiffe://cluster.local/foo/ns/sleep/sa", "no identity"),
        ("https://cluster.local/ns/foo/sa/sleep", "no identity"),
        ("sleep", "no identity"),
        (" ", "no identity"),
    ],
)
async def test_statement_44_the_identity_is_one_of_our_trust_domain(
    impersonated: str, cause: str
) -> None:
    """Another one, and what is no identity, is refused without a look."""
    world = _World()
    assert cause in await world.refusal(impersonated)
    assert not world.source.lists


async def test_a_cluster_speaks_for_its_own_namespaces_alone() -> None:
    """An agent gets nothing that its cluster may not vouch for."""
    world = _World(dataclasses.replace(_RULES, namespaces=frozenset({"bar", "istio-system"})))
    assert "may not speak for" in await world.refusal()


async def test_statement_45_a_pod_that_the_watch_has_not_told_of_is_looked_for() -> None:
    """The answer is yes as soon as the API server knows it, and further ones need no look."""
    world = _World()
    world.source.pods.append(make_pod("other-1", account="other"))
    assert (await world.settle(_OTHER)).uri == _OTHER
    assert world.ask(_OTHER) == WorkloadId.parse(_OTHER)
    assert len(world.source.lists) == 1


@pytest.mark.parametrize("node_name", ["node-1", ""])
async def test_statement_45_an_agent_that_the_watch_has_not_told_of_is_looked_for(
    node_name: str,
) -> None:
    """A whole node that has just come up: its agent and its workloads."""
    world = _World()
    world.index = PodIndex(_RULES.agents)
    world.nodes = ClusterNodes(
        _RULES, world.index, FreshLooks("Kubernetes", world.source, _RULES.agents)
    )
    assert (await world.settle(caller=_changed(node_name=node_name))).uri == _SLEEP


async def test_an_api_server_that_is_away_refuses_nobody() -> None:
    """The look fails with a fault of ours; what the snapshot knows goes on."""
    world = _World()
    world.source.error = BackendUnavailable("connection refused")
    with pytest.raises(BackendUnavailable):
        await world.settle(_OTHER)
    assert (await world.settle(_SLEEP)).uri == _SLEEP


async def test_a_look_that_came_too_late_is_a_fault_of_ours() -> None:
    """A turn that is half a second late has nothing to decide by."""
    with pytest.raises(BackendUnavailable):
        _World().ask(_OTHER, looked=True)


async def test_statement_43_the_callers_own_cluster_is_asked() -> None:
    """However a caller named its cluster; one of another cluster finds nothing there."""
    authorizer = NodeAuthorizer({"Kubernetes": _World().nodes})
    assert authorizer.authorize(_CALLER, _SLEEP, NOW, looked=False) == WorkloadId.parse(_SLEEP)
    for cluster in ("west", ""):
        with pytest.raises(ImpersonationRefused, match="no node accounts"):
            authorizer.authorize(_changed(cluster=cluster), _SLEEP, NOW, looked=False)


def test_trust_domains_are_compared_as_values() -> None:
    """The cluster's own, not the server's."""
    rules = dataclasses.replace(_RULES, trust_domain=TrustDomain("west.local"))
    with pytest.raises(ImpersonationRefused, match="another trust domain"):
        _World(rules).ask()
