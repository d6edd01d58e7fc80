"""Our watch follows a real API server through everything that happens to one."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshsigner.kube import PODS, JsonObject, ObjectKey, Timing, Watch
from tests.conformance.kubernetes.client import client
from tests.conformance.kubernetes.cluster import ControlPlane

WAIT_S = 20.0
QUICK = Timing(lasts_s=2.0, silence_s=3.0, longest_pause_s=0.5, settled_s=0.5)


def pod_of(document: JsonObject) -> tuple[str, str]:
    """Keep a pod's account and node."""
    spec = document["spec"]
    return spec["serviceAccountName"], spec.get("nodeName", "")


class Told:
    """A follower that writes down what it is told."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.lines: list[tuple[Any, ...]] = []

    def upsert(self, key: ObjectKey, value: Any, previous: Any) -> None:
        """Note a change."""
        self.lines.append(("upsert", key, value, previous))

    def delete(self, key: ObjectKey, previous: Any) -> None:
        """Note a deletion."""
        self.lines.append(("delete", key, previous))

    def replaced(self) -> None:
        """Note that a list was taken in."""
        self.lines.append(("replaced",))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.fixture
def namespace(kubernetes: ControlPlane, request: pytest.FixtureRequest) -> str:
    """Make a namespace with a service account for one test."""
    name = str(request.node.name).replace("_", "-").removeprefix("test-")[:60].strip("-")
    kubernetes.admin.create_namespace(name)
    kubernetes.admin.create_service_account(name, "bar")
    return name


async def test_pods_are_followed_as_they_change(kubernetes: ControlPlane, namespace: str) -> None:
    """Listed pods, then new, bound and deleted ones, each told once; other changes tell nobody."""
    admin = kubernetes.admin
    await asyncio.to_thread(admin.create_pod, namespace, "old", "bar", node="n1")
    told = Told()
    async with client(kubernetes) as api:
        path = PODS.collection(namespace)
        watch = Watch(api, path, name="pods", project=pod_of, follower=told, timing=QUICK)
        watch.start()
        await watch.synced()
        assert told.lines == [
            ("upsert", (namespace, "old"), ("bar", "n1"), None),
            ("replaced",),
        ]
        await until(lambda: watch.synced_since is not None)
        told.lines.clear()
        await asyncio.to_thread(admin.create_pod, namespace, "new", "bar")
        await asyncio.to_thread(admin.set_phase, namespace, "old", "Running")
        await asyncio.to_thread(admin.bind_pod, namespace, "new", "n2")
        await asyncio.to_thread(admin.delete_pod, namespace, "old")
        await until(lambda: len(told.lines) == 3)
        assert told.lines == [
            ("upsert", (namespace, "new"), ("bar", ""), None),
            ("upsert", (namespace, "new"), ("bar", "n2"), ("bar", "")),
            ("delete", (namespace, "old"), ("bar", "n1")),
        ]
        assert dict(watch.objects) == {(namespace, "new"): ("bar", "n2")}
        await watch.aclose()
