"""Which workloads a node's agent may ask for: those that run on its own node.

Decides from snapshots alone: the agent's account is trusted, its token is bound
to a live pod, and a live pod of the asked account is on that pod's node, in the
same cluster. Whoever the snapshot would refuse gets one fresh look at the API
server first, for ztunnel asks at the moment a pod starts and waits long after a
refusal. What pods there are is `pods`' and `looks`' matter.

Source: istio security/pkg/server/ca/node_auth.go; ztunnel
src/identity/manager.rs; docs/standards.md 12, 42 to 46.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from meshsigner.authn.looks import FreshLooks, Place
from meshsigner.authn.pods import Account, PodIndex
from meshsigner.errors import BackendUnavailable, ImpersonationRefused
from meshsigner.kube import ObjectKey
from meshsigner.model import Caller, Health
from meshsigner.ports import Parked
from meshsigner.spiffe import InvalidSpiffeId, TrustDomain, WorkloadId


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRules:
    """Who may ask for whom in one cluster.

    Attributes:
        cluster: Its id.
        trust_domain: Trust domain of its identities.
        agents: Accounts whose pods may ask for others.
        namespaces: The only namespaces that the cluster may speak for; None is all.
    """

    cluster: str
    trust_domain: TrustDomain
    agents: frozenset[Account]
    namespaces: frozenset[str] | None = None


class ClusterNodes:
    """The nodes of one cluster.

    Args:
        rules: Who may ask for whom.
        pods: The snapshot, kept up to date by somebody else.
        looks: Fresh looks.
    """

    def __init__(self, rules: NodeRules, pods: PodIndex, looks: FreshLooks) -> None:
        self._rules = rules
        self._pods = pods
        self._looks = looks

    def authorize(self, caller: Caller, impersonated: str, *, looked: bool) -> WorkloadId | Parked:
        """Let an agent act for a workload, or say that a look is needed.

        Args:
            caller: The agent, proven by this cluster.
            impersonated: Whom it asks for.
            looked: True when a look was made for this call.

        Raises:
            ImpersonationRefused: It may not.
            BackendUnavailable: The look was so long ago that it does not count.
        """
        self._check_caller(caller)
        wanted = self._parse(impersonated)
        place = self._place_of(caller)
        fresh = self._looks.found(place)
        for pods in (self._pods, fresh):
            if pods is not None and _is_beside(caller, wanted, pods):
                return wanted
        if not looked:
            return self._looks.ask(place)
        if fresh is None:
            raise BackendUnavailable("a look at the node's pods came too late to count")
        raise ImpersonationRefused(_why(caller, fresh))

    def _check_caller(self, caller: Caller) -> None:
        account = Account(caller.identity.namespace, caller.identity.service_account)
        if account not in self._rules.agents:
            raise ImpersonationRefused("the caller's account is not one of a node's agent")
        if not caller.pod_uid or not caller.pod_name:
            raise ImpersonationRefused("the caller's credential is not bound to a pod")

    def _parse(self, impersonated: str) -> WorkloadId:
        """Read whom the caller asks for.

        Source: istiod does not compare the trust domain and signs what was asked.
        """
        try:
            wanted = WorkloadId.parse(impersonated)
        except InvalidSpiffeId:
            raise ImpersonationRefused("no identity of a service account is asked for") from None
        if wanted.trust_domain != self._rules.trust_domain:
            raise ImpersonationRefused("an identity of another trust domain is asked for")
        namespaces = self._rules.namespaces
        if namespaces is not None and wanted.namespace not in namespaces:
            raise ImpersonationRefused("the cluster may not speak for the asked namespace")
        return wanted

    def _place_of(self, caller: Caller) -> Place:
        """Say where to look: at the node of the credential, or of the agent's pod."""
        agent = self._pods.agent(caller.pod_uid)
        known = agent.pod.node if agent is not None else ""
        return Place(
            node=caller.node_name or known,
            pod=ObjectKey(caller.identity.namespace, caller.pod_name),
        )


def _is_beside(caller: Caller, wanted: WorkloadId, pods: PodIndex) -> bool:
    node = _node_of(caller, pods)
    return bool(node) and pods.runs(node, Account(wanted.namespace, wanted.service_account))


def _node_of(caller: Caller, pods: PodIndex) -> str:
    """Return the node of the caller's own pod; empty when that is not live, or not its own."""
    agent = pods.agent(caller.pod_uid)
    if agent is None:
        return ""
    own = (agent.key.namespace, agent.key.name, agent.pod.service_account)
    identity = caller.identity
    if own != (identity.namespace, caller.pod_name, identity.service_account):
        return ""
    # where the credential names a node, the pod must be there
    return agent.pod.node if caller.node_name in {"", agent.pod.node} else ""


def _why(caller: Caller, pods: PodIndex) -> str:
    if not _node_of(caller, pods):
        return "the pod of the caller's credential is not there"
    return "no live pod of the asked account is on the caller's node"


class NodeAuthorizer:
    """Lets agents of all clusters act for others, each in its own.

    The cluster is the one that has proven the caller, however the caller named
    it: by its id, an alias, or not at all.

    Args:
        clusters: The clusters of each moment by id; changed by somebody else.
    """

    def __init__(self, clusters: Mapping[str, ClusterNodes]) -> None:
        self._clusters = clusters

    def authorize(
        self, caller: Caller, impersonated: str, now: datetime, *, looked: bool
    ) -> WorkloadId | Parked:
        """Let an agent act for a workload of its node, or say what must be looked at first.

        Args:
            caller: The agent, proven.
            impersonated: Whom it asks for.
            now: The turn's time; a snapshot has none.
            looked: True when a look was made for this call.

        Raises:
            ImpersonationRefused: It may not.
            BackendUnavailable: It cannot be judged for a fault of ours.
        """
        del now
        nodes = self._clusters.get(caller.cluster)
        if nodes is None:
            raise ImpersonationRefused("no node accounts are trusted in the caller's cluster")
        return nodes.authorize(caller, impersonated, looked=looked)

    def health(self) -> Sequence[Health]:
        """Say nothing: whoever follows a cluster's pods tells of them."""
        return ()
