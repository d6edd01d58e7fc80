"""Fresh looks at the pods of one node, before anybody is refused for a snapshot that lags.

Decides when the API server is asked and how long its answer counts: a call that
waits is never told less than the API server knew when it came; calls that come
before a look is sent share it; between two looks at a node lie 100 ms; what was
found is held for 500 ms, until the watch has it too. What the answer means is
decided in `node`.

Source: istio security/pkg/server/ca/node_auth.go (eventually consistent: a lag
is a refusal there, and ztunnel waits a second and more before it asks again).
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from meshsigner.authn.pods import Account, PodIndex, pod_of
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import PODS, JsonObject, NotFound, ObjectKey, Page
from meshsigner.kube.watching import key_of
from meshsigner.ports import Parked

EVERY_S = 0.1
HELD_S = 0.5
MAX_IN_FLIGHT = 8


class PodSource(Protocol):
    """What is used of `KubernetesApi`."""

    async def get(self, path: str) -> JsonObject:
        """Return an object."""
        ...

    def pages(self, path: str, *, fields: str) -> AsyncIterator[Page]:
        """Return a list by pages."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is looked at.

    Attributes:
        node: The node, empty while it is not known.
        pod: The agent's own pod, whose node is found first where it is not known.
    """

    node: str
    pod: ObjectKey

    @property
    def name(self) -> str:
        """What looks are shared by: the node, or else the pod."""
        return f"node {self.node}" if self.node else f"pod {self.pod.namespace}/{self.pod.name}"


class _Looked:
    """What is known of one place, at the moment.

    Attributes:
        turn: One look at a time.
        sent_s: When the last one was sent, in the event loop's seconds.
        next_number: Of the look that newcomers share, None when there is none.
        waiting: Looks that are not done.
        found: What the last one found, while it counts.
        forget: Ends that time.
    """

    __slots__ = ("forget", "found", "next_number", "sent_s", "turn", "waiting")

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.sent_s = float("-inf")
        self.next_number: int | None = None
        self.waiting = 0
        self.found: PodIndex | None = None
        self.forget: asyncio.TimerHandle | None = None


class FreshLooks:
    """Looks at one cluster.

    Args:
        cluster: Its id.
        api: Its API server.
        agents: Accounts of node agents.
    """

    def __init__(self, cluster: str, api: PodSource, agents: frozenset[Account]) -> None:
        self._cluster = cluster
        self._api = api
        self._agents = agents
        self._places: dict[str, _Looked] = {}
        self._numbers = itertools.count()
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    def found(self, place: Place) -> PodIndex | None:
        """Return what a look found within the last 500 ms, None when there was none."""
        looked = self._places.get(place.name)
        return None if looked is None else looked.found

    def ask(self, place: Place) -> Parked:
        """Say what to wait for: a look that is sent from now on."""
        looked = self._places.setdefault(place.name, _Looked())
        if looked.next_number is None:
            looked.next_number = next(self._numbers)
        key = (self._cluster, "look", place.name, looked.next_number)
        return Parked(key=key, fetch=partial(self._look, place, looked))

    async def _look(self, place: Place, looked: _Looked) -> None:
        looked.waiting += 1
        try:
            async with looked.turn, self._slots:
                loop = asyncio.get_running_loop()
                await asyncio.sleep(looked.sent_s + EVERY_S - loop.time())
                looked.next_number, looked.sent_s = None, loop.time()
                node, pods = await self._list(place)
        finally:
            looked.waiting -= 1
            asyncio.get_running_loop().call_later(EVERY_S, self._settle, place.name, looked)
        self._hold(place.name, pods)
        if node and not place.node:
            self._hold(Place(node=node, pod=place.pod).name, pods)

    async def _list(self, place: Place) -> tuple[str, PodIndex]:
        """Return the node and its live pods.

        Raises:
            BackendUnavailable: The API server does not tell.
        """
        pods = PodIndex(self._agents)
        node = place.node or await self._node_of(place.pod)
        if not node:
            return "", pods
        async for page in self._api.pages(PODS.collection(), fields=f"spec.nodeName={node}"):
            for document in page.items:
                _take(pods, document)
        return node, pods

    async def _node_of(self, pod: ObjectKey) -> str:
        """Return where a pod is, empty when it is not."""
        try:
            found = pod_of(await self._api.get(PODS.object(pod.name, pod.namespace)))
        except NotFound:
            return ""
        except (KeyError, TypeError, AttributeError) as error:
            raise BackendUnavailable("the API server's pod cannot be read") from error
        return found.node if found is not None else ""

    def _hold(self, name: str, pods: PodIndex) -> None:
        looked = self._places.setdefault(name, _Looked())
        if looked.forget is not None:
            looked.forget.cancel()
        looked.found = pods
        loop = asyncio.get_running_loop()
        looked.forget = loop.call_later(HELD_S, self._drop, name, looked)

    def _drop(self, name: str, looked: _Looked) -> None:
        looked.found = looked.forget = None
        self._settle(name, looked)

    def _settle(self, name: str, looked: _Looked) -> None:
        """Forget a place that nobody waits for, once its pause is over."""
        idle = not looked.waiting and looked.next_number is None and looked.found is None
        if idle and self._places.get(name) is looked:
            del self._places[name]


def _take(pods: PodIndex, document: JsonObject) -> None:
    """Take a pod in; one that cannot be read counts as not there."""
    try:
        pod = pod_of(document)
    except (KeyError, TypeError, AttributeError):
        return
    if pod is not None:
        pods.upsert(key_of(document), pod, None)
