"""Pods for tests, and an API server that tells of them as they are at that moment."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from meshsigner.authn.pods import Pod, PodIndex, pod_of
from meshsigner.kube import JsonObject, NotFound, ObjectKey, Page

_UIDS = itertools.count(1)


def make_pod(
    name: str,
    node: str = "node-1",
    account: str = "sleep",
    *,
    namespace: str = "foo",
    phase: str = "Running",
    uid: str = "",
) -> dict[str, Any]:
    """Make a pod as an API server tells it."""
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": uid or f"uid-{next(_UIDS)}"},
        "spec": {"nodeName": node, "serviceAccountName": account},
        "status": {"phase": phase},
    }


def key_and_pod(document: JsonObject) -> tuple[ObjectKey, Pod]:
    """Return a pod as an index takes it."""
    metadata, pod = document["metadata"], pod_of(document)
    assert pod is not None
    return ObjectKey(metadata["namespace"], metadata["name"]), pod


def fill(index: PodIndex, *documents: JsonObject) -> PodIndex:
    """Put pods into an index."""
    for document in documents:
        index.upsert(*key_and_pod(document), None)
    return index


class FakePodSource:
    """An API server with pods.

    Attributes:
        pods: What it knows now.
        lists: Field selector of each list, and when it was asked, in the loop's seconds.
        gets: Path of each single read.
        error: Raised instead of an answer, when set.
        gate: Lists wait for it after they were read.
    """

    def __init__(self, *pods: JsonObject) -> None:
        self.pods = list(pods)
        self.lists: list[tuple[str, float]] = []
        self.gets: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, path: str) -> JsonObject:
        """Return a pod by its path."""
        self.gets.append(path)
        if self.error is not None:
            raise self.error
        for pod in self.pods:
            metadata = pod["metadata"]
            if path == f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}":
                return pod
        raise NotFound(path, status=404)

    async def pages(self, path: str, *, fields: str) -> AsyncIterator[Page]:
        """Return the pods of a node, one a page."""
        assert path == "/api/v1/pods"
        self.lists.append((fields, asyncio.get_running_loop().time()))
        if self.error is not None:
            raise self.error
        node = fields.removeprefix("spec.nodeName=")
        found = [pod for pod in self.pods if pod["spec"]["nodeName"] == node]
        await self.gate.wait()
        for pod in found:
            yield Page(items=[pod], resource_version="1")
