"""Which service accounts run on which node, from what the API server says of its pods.

Decides what is kept of a pod (its node, account and UID while it lives) and
answers two questions at once: whether a live pod of an account is on a node,
and which node an agent's own pod is on. Where pods come from is `kube`'s
matter, who may ask for whom is `node`'s. Memory is for the live pods alone:
accounts are counted by node, only agents are kept by UID.

Source: istio security/pkg/server/ca/node_auth.go (index of pods by account and
node); Kubernetes core/v1 PodPhase.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from meshsigner.kube import JsonObject, ObjectKey


class Account(NamedTuple):
    """A service account within its cluster.

    Attributes:
        namespace: Its namespace.
        name: Its name.
    """

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What is kept of a pod that is on a node and has not ended.

    Attributes:
        node: Where it is.
        service_account: Name of its account.
        uid: Tells it from others that had its name.
    """

    node: str
    service_account: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPod:
    """The pod of a node's agent.

    Attributes:
        key: Namespace and name.
        pod: The rest.
    """

    key: ObjectKey
    pod: Pod


_ENDED = frozenset({"Failed", "Succeeded"})


def pod_of(document: JsonObject) -> Pod | None:
    """Read a pod.

    Args:
        document: As the API server gives it.

    Returns:
        None for one that is on no node yet, or has ended: no container of it
        runs any more, so that nobody needs its certificate.

    Raises:
        KeyError: Something that every pod has is missing.
        TypeError: It is of another kind.
    """
    spec = document["spec"]
    node = spec.get("nodeName") or ""
    ended = (document.get("status") or {}).get("phase") in _ENDED
    if not node or ended:
        return None
    # many pods share them
    account = sys.intern(spec.get("serviceAccountName") or "default")
    return Pod(node=sys.intern(node), service_account=account, uid=document["metadata"]["uid"])


class PodIndex:
    """Live pods by node, kept up to date one change at a time.

    Args:
        agents: Accounts of node agents, whose own pods are asked for by UID.
    """

    def __init__(self, agents: Iterable[Account]) -> None:
        self._agent_accounts = frozenset(agents)
        self._accounts: dict[str, dict[Account, int]] = {}
        self._agents: dict[str, AgentPod] = {}

    def runs(self, node: str, account: Account) -> bool:
        """Tell whether a live pod of an account is on a node."""
        return account in self._accounts.get(node, ())

    def agent(self, uid: str) -> AgentPod | None:
        """Return the live pod of an agent, None while there is none of this UID."""
        return self._agents.get(uid)

    def nodes(self) -> int:
        """Count the nodes with live pods."""
        return len(self._accounts)

    def upsert(self, key: ObjectKey, value: Pod, previous: Pod | None) -> None:
        """Take in what a pod is now.

        Args:
            key: Which.
            value: What it is.
            previous: What it was; a pod of the same name may be another one by now.
        """
        if previous is not None:
            self.delete(key, previous)
        account = Account(key.namespace, value.service_account)
        on_node = self._accounts.setdefault(value.node, {})
        on_node[account] = on_node.get(account, 0) + 1
        if account in self._agent_accounts:
            self._agents[value.uid] = AgentPod(key=key, pod=value)

    def delete(self, key: ObjectKey, previous: Pod) -> None:
        """Forget a pod.

        Args:
            key: Which.
            previous: What it was.
        """
        account = Account(key.namespace, previous.service_account)
        on_node = self._accounts[previous.node]
        on_node[account] -= 1
        if not on_node[account]:
            del on_node[account]
            if not on_node:
                del self._accounts[previous.node]
        self._agents.pop(previous.uid, None)

    def replaced(self) -> None:
        """Know that a whole list was taken in; each change of it was told already."""
