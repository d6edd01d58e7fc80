"""The roots in every namespace: written where they differ, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshsigner.cluster.root_config_maps import KEY, LABEL, NAME, RootConfigMaps, Scope
from meshsigner.cluster.term import Term, TermOver
from meshsigner.cluster.writing import Pace, Writer
from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from tests.fakes.http_server import serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address, Refusal
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
NAMESPACES = Address("/api/v1", "namespaces")


class World:
    """A cluster, what its controllers are to write, and their term."""

    def __init__(self, server: KubernetesObjects) -> None:
        """Begin with one text."""
        self.server = server
        self.text = "roots 1"
        self.now = 0.0
        self.term = Term(100.0, lambda: self.now)
        self.maps: RootConfigMaps | None = None

    def namespace(self, name: str, phase: str = "Active", **labels: str) -> None:
        """Make a namespace."""
        document = {"metadata": {"name": name, "labels": labels}, "status": {"phase": phase}}
        self.server.store.create(NAMESPACES, document)

    def found(self, namespace: str) -> dict[str, Any] | None:
        """Return a namespace's ConfigMap."""
        try:
            return self.server.store.get(Address("/api/v1", "configmaps", namespace, NAME))
        except Refusal:
            return None

    def has(self, namespace: str) -> bool:
        """Tell whether a namespace has what it should."""
        found = self.found(namespace)
        return found is not None and found["data"].get(KEY) == self.text

    def writes(self) -> int:
        """Count what was written."""
        return sum(method in {"POST", "PATCH", "PUT"} for method, _, _ in self.server.asked)


@asynccontextmanager
async def _running(world: World, scope: Scope | None = None) -> AsyncIterator[asyncio.Task[None]]:
    connection = Connection(
        server=world.server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
    )
    api = KubernetesApi(connection, timeout_s=2.0)
    writer = Writer(api, world.term, Pace(1_000.0))
    world.maps = RootConfigMaps(api, writer, lambda: world.text, scope or Scope())
    running = asyncio.create_task(world.maps.run())
    try:
        yield running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.aclose()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Return a cluster with three namespaces, of which one ends."""
    server = KubernetesObjects(bookmark_s=0.1)
    async with serve(server.http, server_context(SERVING, tmp_path)):
        world = World(server)
        world.namespace("a")
        world.namespace("b", team="shop")
        world.namespace("ending", "Terminating")
        yield world


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_all_have_the_roots_and_then_nothing_is_written(world: World) -> None:
    """Each active namespace once; another leader after that writes nothing."""
    async with _running(world):
        await until(lambda: world.has("a") and world.has("b"))
        assert world.maps is not None
        await until(lambda: world.maps is not None and world.maps.stands_everywhere("roots 1"))
        assert not world.maps.stands_everywhere("roots 2")
    assert world.found("ending") is None
    written = world.writes()
    assert written == 2
    async with _running(world):
        await until(lambda: world.maps is not None and world.maps.stands_everywhere("roots 1"))
    assert world.writes() == written


async def test_changed_roots_go_everywhere(world: World) -> None:
    """New roots are written over the old ones, beside what is others'."""
    theirs = {"metadata": {"name": NAME, "labels": {"team": "a"}}, "data": {"note": "theirs"}}
    world.server.store.create(Address("/api/v1", "configmaps", "a"), theirs)
    async with _running(world):
        await until(lambda: world.has("a") and world.has("b"))
        world.text = "roots 2"
        await until(lambda: world.has("a") and world.has("b"))
    found = world.found("a")
    assert found is not None
    assert found["data"]["note"] == "theirs"
    assert found["metadata"]["labels"] == {"team": "a", LABEL: "true"}


async def test_new_namespace_and_lost_object_are_seen(world: World) -> None:
    """Watches tell of both."""
    async with _running(world):
        await until(lambda: world.has("a"))
        world.namespace("c")
        await until(lambda: world.has("c"))
        world.server.store.delete(Address("/api/v1", "configmaps", "a", NAME))
        await until(lambda: world.has("a"))


async def test_conflict_is_somebody_elses_write(world: World) -> None:
    """A write that loses against another is done again with what is there then."""
    async with _running(world):
        await until(lambda: world.has("a") and world.has("b"))
        address = Address("/api/v1", "configmaps", "a", NAME)
        for number in range(10):
            world.server.store.merge(address, {"data": {KEY: f"nonsense {number}"}})
            await asyncio.sleep(0.01)
        await until(lambda: world.has("a"))


async def test_refusals_are_tried_again(world: World) -> None:
    """An API server that says wait, or fails, gets the rest later."""
    world.server.refuse(0, 429)
    async with _running(world):
        await until(lambda: world.has("a") and world.has("b"))
        world.server.refuse(3, 500)
        world.text = "roots 2"
        await until(lambda: world.has("a") and world.has("b"))


async def test_nothing_is_written_while_there_are_no_roots(world: World) -> None:
    """An empty bundle would cut everybody off."""
    world.text = ""
    async with _running(world):
        await asyncio.sleep(0.3)
        assert world.writes() == 0
        assert world.maps is not None
        assert not world.maps.stands_everywhere("")


async def test_end_of_the_term_ends_the_work(world: World) -> None:
    """The first write that comes too late ends everything."""
    async with _running(world) as running:
        await until(lambda: world.has("a") and world.has("b"))
        world.now = 100.0
        world.namespace("late")
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(running, 5)
    assert caught.value.subgroup(TermOver)
    assert world.found("late") is None


async def test_scope_says_who_gets_them(world: World) -> None:
    """A selector and a list of those left out hold both."""
    world.namespace("c", team="shop")
    async with _running(world, Scope(selector="team=shop", excluded={"c"})):
        await until(lambda: world.has("b"))
        await asyncio.sleep(0.1)
    assert world.found("a") is None
    assert world.found("c") is None
