"""The index of live pods by node and account."""

import random
from typing import Any

import pytest

from meshsigner.authn.pods import Account, Pod, PodIndex, pod_of
from meshsigner.kube import ObjectKey
from tests.fakes.pods import fill, key_and_pod, make_pod

_AGENTS = [Account("istio-system", "ztunnel")]
_SLEEP = Account("foo", "sleep")


def test_a_pod_is_read() -> None:
    """Node, account and UID are kept."""
    pod = pod_of(make_pod("sleep-1", "node-7", uid="u"))
    assert pod == Pod(node="node-7", service_account="sleep", uid="u")


def test_a_pod_without_account_has_the_default_one() -> None:
    """As the API server completes it."""
    document = make_pod("a")
    del document["spec"]["serviceAccountName"]
    pod = pod_of(document)
    assert pod is not None
    assert pod.service_account == "default"


@pytest.mark.parametrize("changes", [{"node": ""}, {"phase": "Failed"}, {"phase": "Succeeded"}])
def test_statement_43_a_pod_that_is_nowhere_or_has_ended_is_not_kept(changes: Any) -> None:
    """Only a live pod on a node needs a certificate there."""
    assert pod_of(make_pod("a", **changes)) is None


def test_a_pod_that_starts_is_there_before_it_runs() -> None:
    """Bound is enough: ztunnel asks before the first container runs."""
    assert pod_of(make_pod("a", phase="Pending")) is not None


def test_an_account_runs_while_one_of_its_pods_does() -> None:
    """The last pod takes it away."""
    first, second = make_pod("sleep-1"), make_pod("sleep-2")
    index = fill(PodIndex(_AGENTS), first, second)
    assert index.runs("node-1", _SLEEP)
    index.delete(*key_and_pod(first))
    assert index.runs("node-1", _SLEEP)
    index.delete(*key_and_pod(second))
    assert not index.runs("node-1", _SLEEP)
    assert index.nodes() == 0


def test_other_nodes_and_accounts_are_others() -> None:
    """Neither the same account elsewhere nor another account of the same name."""
    index = fill(PodIndex(_AGENTS), make_pod("sleep-1"))
    assert not index.runs("node-2", _SLEEP)
    assert not index.runs("node-1", Account("bar", "sleep"))


def test_a_pod_that_is_replaced_under_its_name_moves() -> None:
    """A StatefulSet's pod comes back with another UID on another node."""
    key, old = key_and_pod(make_pod("zt", "node-1", "ztunnel", namespace="istio-system", uid="a"))
    _, new = key_and_pod(make_pod("zt", "node-2", "ztunnel", namespace="istio-system", uid="b"))
    index = PodIndex(_AGENTS)
    index.upsert(key, old, None)
    index.upsert(key, new, old)
    assert index.agent("a") is None
    found = index.agent("b")
    assert found is not None
    assert (found.key, found.pod.node) == (key, "node-2")
    assert not index.runs("node-1", _AGENTS[0])


def test_only_agents_are_known_by_uid() -> None:
    """Nobody else asks for others."""
    index = fill(PodIndex(_AGENTS), make_pod("sleep-1", uid="u"))
    assert index.agent("u") is None


def test_any_order_of_changes_ends_in_the_same_index() -> None:
    """After thousands of random changes the answers are those of a plain search."""
    rng, pods = random.Random(7), dict[ObjectKey, Pod]()  # noqa: S311 - no secret
    index = PodIndex(_AGENTS)
    accounts = [_SLEEP, Account("foo", "other"), _AGENTS[0]]
    for step in range(3_000):
        account = rng.choice(accounts)
        key = ObjectKey(account.namespace, f"pod-{rng.randrange(40)}")
        previous = pods.get(key)
        if previous is not None and rng.random() < 0.4:
            index.delete(key, pods.pop(key))
            continue
        pod = Pod(node=f"node-{rng.randrange(4)}", service_account=account.name, uid=str(step))
        index.upsert(key, pod, previous)
        pods[key] = pod
    for node in (f"node-{n}" for n in range(5)):
        for account in accounts:
            expected = any(
                pod.node == node and Account(key.namespace, pod.service_account) == account
                for key, pod in pods.items()
            )
            assert index.runs(node, account) == expected
    agents = {pod.uid for key, pod in pods.items() if pod.service_account == "ztunnel"}
    assert {str(uid) for uid in range(3_000) if index.agent(str(uid))} == agents
