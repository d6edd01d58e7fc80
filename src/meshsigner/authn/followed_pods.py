"""Keeps the pods of one cluster known, so that its nodes' agents can be judged.

Talks to the cluster's API server: one watch over all pods, and looks at single
nodes. What the pods mean is decided in `node`.
"""

from collections.abc import Sequence

from meshsigner.authn.looks import FreshLooks
from meshsigner.authn.node import ClusterNodes, NodeRules
from meshsigner.authn.pods import Pod, PodIndex, pod_of
from meshsigner.kube import PODS, KubernetesApi, Timing, Watch
from meshsigner.model import Health


class FollowedPods:
    """A cluster's pods, followed from `start` to `aclose`.

    Args:
        rules: Who may ask for whom there.
        api: Its API server; closed with this.
        known: Clusters whose agents may ask, by id: it is there while it is followed.
        timing: How patient the watch is.

    Attributes:
        nodes: Who may ask for whom.
    """

    def __init__(
        self,
        rules: NodeRules,
        api: KubernetesApi,
        known: "dict[str, ClusterNodes]",
        *,
        timing: Timing | None = None,
    ) -> None:
        self._cluster = rules.cluster
        self._api = api
        self._known = known
        index = PodIndex(rules.agents)
        self.nodes = ClusterNodes(rules, index, FreshLooks(rules.cluster, api, rules.agents))
        self._watch: Watch[Pod] = Watch(
            api,
            PODS.collection(),
            name=f"nodes/{rules.cluster}",
            project=pod_of,
            follower=index,
            timing=timing,
        )

    async def start(self) -> None:
        """Begin to follow; until the first list is there, each call has a look of its own."""
        self._watch.start()
        self._known[self._cluster] = self.nodes

    async def aclose(self) -> None:
        """Follow no more: from now on the cluster's agents act for nobody."""
        if self._known.get(self._cluster) is self.nodes:
            del self._known[self._cluster]
        await self._watch.aclose()
        await self._api.aclose()

    async def synced(self) -> None:
        """Wait until all pods were listed for the first time."""
        await self._watch.synced()

    def health(self) -> Sequence[Health]:
        """Say whether the pods are known."""
        return (self._watch.health(),)
