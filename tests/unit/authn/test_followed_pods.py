"""A cluster's pods are followed while its agents may ask, and no longer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshsigner.authn.followed_pods import FollowedPods
from meshsigner.authn.node import ClusterNodes, NodeAuthorizer, NodeRules
from meshsigner.authn.pods import Account
from meshsigner.errors import ImpersonationRefused
from meshsigner.kube import BearerToken, Connection, KubernetesApi, Timing, TlsFiles
from meshsigner.model import AuthMethod, Caller
from meshsigner.ports import Parked
from meshsigner.spiffe import WorkloadId
from tests.fakes.authn import TRUST_DOMAIN
from tests.fakes.http_server import serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address
from tests.fakes.pipeline import NOW
from tests.fakes.pods import make_pod
from tests.fakes.serving_tls import TestRoots, server_context

_ROOTS = TestRoots()
_SERVING = _ROOTS.issue("127.0.0.1")
_QUICK = Timing(
    lasts_s=30.0, silence_s=0.3, first_pause_s=0.01, longest_pause_s=0.05, settled_s=0.05
)
_AGENT = Account("istio-system", "ztunnel")
_RULES = NodeRules(cluster="Kubernetes", trust_domain=TRUST_DOMAIN, agents=frozenset({_AGENT}))
_SLEEP = "spiffe://cluster.local/ns/foo/sa/sleep"


class _World:
    """An API server, and a cluster that is followed there."""

    def __init__(self, server: KubernetesObjects, api: KubernetesApi) -> None:
        self.server = server
        self.known: dict[str, ClusterNodes] = {}
        self.followed = FollowedPods(_RULES, api, self.known, timing=_QUICK)
        self.authorizer = NodeAuthorizer(self.known)
        self.caller = self._agent()

    def put(self, name: str, node: str, account: str, namespace: str = "foo") -> str:
        pod = make_pod(name, node, account, namespace=namespace)
        del pod["metadata"]["uid"]
        made = self.server.store.create(Address("/api/v1", "pods", namespace), pod)
        return str(made["metadata"]["uid"])

    def _agent(self) -> Caller:
        uid = self.put("zt-1", "node-1", "ztunnel", "istio-system")
        return Caller(
            identity=WorkloadId.of(TRUST_DOMAIN, *_AGENT),
            cluster="Kubernetes",
            auth_method=AuthMethod.TOKEN_REVIEW,
            pod_name="zt-1",
            pod_uid=uid,
        )

    def ask(self, *, looked: bool = False) -> WorkloadId | Parked:
        return self.authorizer.authorize(self.caller, _SLEEP, NOW, looked=looked)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[_World]:
    """A cluster with one agent, on node-1."""
    server = KubernetesObjects(bookmark_s=0.1)
    async with serve(server.http, server_context(_SERVING, tmp_path)):
        connection = Connection(
            server=server.http.url, tls=TlsFiles(ca=_ROOTS.pem), token=BearerToken("reviewer")
        )
        made = _World(server, KubernetesApi(connection))
        yield made
        await made.followed.aclose()


async def _until_allowed(world: _World) -> None:
    async with asyncio.timeout(5):
        while isinstance(world.ask(), Parked):
            await asyncio.sleep(0.001)


async def test_what_the_watch_tells_is_known(world: _World) -> None:
    """Pods that are there, and pods that come later, need no look."""
    await world.followed.start()
    await world.followed.synced()
    assert isinstance(world.ask(), Parked)
    world.put("sleep-1", "node-1", "sleep")
    await _until_allowed(world)
    (health,) = world.followed.health()
    assert (health.name, health.ready) == ("nodes/Kubernetes", True)


async def test_before_the_first_list_each_call_has_a_look(world: _World) -> None:
    """A server that has just started refuses nobody for that."""
    world.put("sleep-1", "node-1", "sleep")
    world.server.silent = True
    await world.followed.start()
    parked = world.ask()
    assert isinstance(parked, Parked)
    await parked.fetch()
    assert world.ask(looked=True) == WorkloadId.parse(_SLEEP)


async def test_a_cluster_that_is_followed_no_more_lets_nobody_ask(world: _World) -> None:
    """Its agents are refused as those of a cluster that never allowed it."""
    await world.followed.start()
    await world.followed.synced()
    await world.followed.aclose()
    with pytest.raises(ImpersonationRefused, match="no node accounts"):
        world.ask()
