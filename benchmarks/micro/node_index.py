"""The index of pods by node: memory of a worker, time of a decision, of a change, of a whole list.

Pods as an API server tells them, projected and kept as the server does it: the
watch's own snapshot beside the index. No server and no network takes part.

`python -m benchmarks node-index` prints the table of docs/performance.md.
"""

import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from meshsigner.authn.looks import FreshLooks
from meshsigner.authn.node import ClusterNodes, NodeRules
from meshsigner.authn.pods import Account, Pod, PodIndex, pod_of
from meshsigner.kube import JsonObject, ObjectKey, Page
from meshsigner.kube.watching import key_of
from meshsigner.model import AuthMethod, Caller
from meshsigner.spiffe import TrustDomain, WorkloadId

ROUNDS: Final = 7
AGENT: Final = Account("istio-system", "ztunnel")
DOMAIN: Final = TrustDomain.parse("cluster.local")
_ACCOUNTS = 500
_NAMESPACES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the index costs.

    Attributes:
        pods: Pods in it.
        nodes: On so many nodes.
        memory_bytes: All that a worker keeps of them.
        list_s: Taking in the whole list, parsed already, seconds.
        decision_us: One decision on an agent's request, microseconds.
        change_us: One pod that moves, microseconds.
    """

    pods: int
    nodes: int
    memory_bytes: int
    list_s: float
    decision_us: float
    change_us: float


class _NoLooks:
    """An API server that nobody needs."""

    async def get(self, path: str) -> JsonObject:
        raise NotImplementedError(path)

    def pages(self, path: str, *, fields: str) -> AsyncIterator[Page]:
        raise NotImplementedError(path, fields)


class _Kept:
    """What a worker keeps: the watch's snapshot, and the index."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, Pod] = {}
        self.index = PodIndex([AGENT])

    def take(self, document: JsonObject) -> None:
        key, pod = key_of(document), pod_of(document)
        if pod is not None:
            self.index.upsert(key, pod, self.objects.get(key))
            self.objects[key] = pod


def run(*, pods: int, nodes: int) -> Cost:
    """Measure.

    Args:
        pods: Pods, one of the agent on each node among them.
        nodes: Nodes.
    """
    memory_bytes = _memory(pods, nodes)
    documents = list(_documents(pods, nodes))
    list_s = statistics.median(_timed(lambda: _fill(documents)) for _ in range(ROUNDS))
    kept = _fill(documents)
    return Cost(
        pods=pods,
        nodes=nodes,
        memory_bytes=memory_bytes,
        list_s=list_s,
        decision_us=_decision_us(kept, documents, nodes),
        change_us=_change_us(kept),
    )


def command(
    pods: Annotated[int, typer.Option(min=1000, help="Pods.")] = 10_000,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes.")] = 200,
) -> None:
    """The index of pods by node: memory, time of a decision, of a change, of a whole list."""
    typer.echo(render([run(pods=pods, nodes=nodes)]))


def render(costs: Sequence[Cost]) -> str:
    """Write the results as a table."""
    head = (
        "| pods | nodes | memory a worker | whole list | decision | pod that moves |\n"
        "|---|---|---|---|---|---|"
    )
    lines = [
        f"| {cost.pods:,} | {cost.nodes} | {cost.memory_bytes / 2**20:.1f} MiB "
        f"({cost.memory_bytes / cost.pods:.0f} bytes a pod) | {cost.list_s * 1e3:.0f} ms "
        f"| {cost.decision_us:.1f} us | {cost.change_us:.1f} us |"
        for cost in costs
    ]
    return "\n".join([head, *lines])


def _documents(pods: int, nodes: int) -> Iterator[dict[str, Any]]:
    """Make pods one by one, no two of which share a text that JSON would not share."""
    for number in range(pods):
        agent = number < nodes
        account = number % _ACCOUNTS
        namespace = AGENT.namespace if agent else f"team-{account % _NAMESPACES}"
        name = f"{AGENT.name}-x{number:04}" if agent else f"app-{account}-7d9f8b6c5d-{number:05}"
        yield {
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"0f3c9a52-77be-4b06-9d2e-{number:012}",
            },
            "spec": {
                "nodeName": f"ip-10-0-{number % nodes}.eu-central-1.compute.internal",
                "serviceAccountName": AGENT.name if agent else f"app-{account}",
            },
            "status": {"phase": "Running"},
        }


def _fill(documents: Sequence[JsonObject]) -> _Kept:
    kept = _Kept()
    for document in documents:
        kept.take(document)
    return kept


def _memory(pods: int, nodes: int) -> int:
    """Return what is held once the documents are gone."""
    gc.collect()
    tracemalloc.start()
    kept = _Kept()
    for document in _documents(pods, nodes):
        kept.take(document)
    del document
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held if kept.objects else 0


def _decision_us(kept: _Kept, documents: Sequence[JsonObject], nodes: int) -> float:
    """Time what is done for each request of an agent, all agents and their workloads in turn."""
    rules = NodeRules(cluster="Kubernetes", trust_domain=DOMAIN, agents=frozenset({AGENT}))
    judge = ClusterNodes(rules, kept.index, FreshLooks("Kubernetes", _NoLooks(), rules.agents))
    agents = [_caller(document) for document in documents[:nodes]]
    asks = [
        (agents[number % nodes], _identity(document)) for number, document in enumerate(documents)
    ]

    def decide() -> None:
        for caller, impersonated in asks:
            judge.authorize(caller, impersonated, looked=False)

    return statistics.median(_timed(decide) for _ in range(ROUNDS)) / len(asks) * 1e6


def _change_us(kept: _Kept) -> float:
    """Time pods that move to another node and back."""
    moves = [
        (key, pod, Pod(node="elsewhere", service_account=pod.service_account, uid=pod.uid))
        for key, pod in kept.objects.items()
    ]

    def move() -> None:
        for key, old, new in moves:
            kept.index.upsert(key, new, old)
        for key, old, new in moves:
            kept.index.upsert(key, old, new)

    return statistics.median(_timed(move) for _ in range(ROUNDS)) / (2 * len(moves)) * 1e6


def _caller(document: JsonObject) -> Caller:
    metadata = document["metadata"]
    return Caller(
        identity=WorkloadId.of(DOMAIN, *AGENT),
        cluster="Kubernetes",
        auth_method=AuthMethod.TOKEN_REVIEW,
        pod_name=metadata["name"],
        pod_uid=metadata["uid"],
        node_name=document["spec"]["nodeName"],
    )


def _identity(document: JsonObject) -> str:
    namespace, account = document["metadata"]["namespace"], document["spec"]["serviceAccountName"]
    return f"spiffe://{DOMAIN}/ns/{namespace}/sa/{account}"


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
