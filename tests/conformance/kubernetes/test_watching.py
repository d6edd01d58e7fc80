"""Our watch follows a real API server through everything that happens to one."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from meshsigner.kube import NAMESPACES, PODS, JsonObject, ObjectKey, Timing, Watch, key_of
from tests.conformance.kubernetes.admin import Refusal
from tests.conformance.kubernetes.client import client
from tests.conformance.kubernetes.cluster import ControlPlane, Options, control_plane

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


class Names:
    """What is known of a collection, kept by a follower from what it is told."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.known: set[str] = set()
        self.lists = 0

    def upsert(self, key: ObjectKey, value: Any, previous: Any) -> None:
        """Add a name."""
        del value, previous
        self.known.add(key.name)

    def delete(self, key: ObjectKey, previous: Any) -> None:
        """Remove a name."""
        del previous
        self.known.remove(key.name)

    def replaced(self) -> None:
        """Count lists."""
        self.lists += 1


async def test_a_watch_outlives_its_api_server(tmp_path: Path) -> None:
    """Frozen, stopped, its store stopped, its memory too short: the snapshot is right again."""
    with control_plane(tmp_path, Options(controllers=False)) as cluster:
        await asyncio.to_thread(cluster.admin.create_namespace, "before")
        names = Names()
        async with client(cluster, timeout_s=2.0) as api:
            path = NAMESPACES.collection()
            watch = Watch(api, path, name="spaces", project=key_of, follower=names, timing=QUICK)
            watch.start()
            await until(lambda: "before" in names.known)
            for fault in (frozen, stopped, store_stopped):
                await asyncio.to_thread(fault, cluster, watch)
                await asyncio.to_thread(
                    cluster.admin.create_namespace, fault.__name__.replace("_", "-")
                )
                await until(partial(has, names, fault.__name__.replace("_", "-")))
                await until(partial(in_sync, watch))
            # A restarted API server has forgotten what was before it, and says 410.
            assert names.lists >= 2
            await watch.aclose()
    assert {key.name for key in watch.objects} == names.known


def has(names: Names, name: str) -> bool:
    """Tell whether a name is known."""
    return name in names.known


def in_sync(watch: Watch[Any]) -> bool:
    """Tell whether a watch follows."""
    return watch.synced_since is not None


def lost(watch: Watch[Any]) -> None:
    """Wait until a watch knows that it has lost its server."""
    deadline = time.monotonic() + WAIT_S
    while in_sync(watch):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def frozen(cluster: ControlPlane, watch: Watch[Any]) -> None:
    """Let the API server stand still until that is noticed."""
    cluster.api_server.freeze()
    lost(watch)
    cluster.api_server.thaw()


def stopped(cluster: ControlPlane, watch: Watch[Any]) -> None:
    """Stop and start the API server."""
    cluster.api_server.stop()
    lost(watch)
    cluster.start_api_server()


def store_stopped(cluster: ControlPlane, watch: Watch[Any]) -> None:
    """Stop and start its store, whether a watch notices or not."""
    del watch
    cluster.etcd.stop()
    time.sleep(1.0)
    cluster.start_etcd()
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            cluster.admin.get("/readyz")
        except (Refusal, OSError):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return
