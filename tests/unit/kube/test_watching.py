"""A collection is followed through everything that happens to connections and servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from meshsigner.errors import BackendUnavailable
from meshsigner.kube import (
    PODS,
    BearerToken,
    Connection,
    JsonObject,
    KubernetesApi,
    ObjectKey,
    Timing,
    TlsFiles,
    Watch,
    key_of,
)
from tests.fakes.http_server import body, serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
PATH = PODS.collection()
FOO = Address("/api/v1", "pods", "foo")
QUICK = Timing(
    lasts_s=30.0, silence_s=0.3, first_pause_s=0.01, longest_pause_s=0.05, settled_s=0.05
)


def node_of(document: JsonObject) -> str | None:
    """Keep the node of a pod that has not failed."""
    if document["status"]["phase"] == "Failed":
        return None
    return str(document["spec"]["nodeName"])


def pod(name: str, node: str = "n1", phase: str = "Running", **labels: str) -> dict[str, Any]:
    """Return a pod."""
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node},
        "status": {"phase": phase},
    }


class Told:
    """A follower that keeps a copy of its own from what it is told."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.copy: dict[ObjectKey, Any] = {}
        self.lists = 0
        self.changes = 0

    def upsert(self, key: ObjectKey, value: Any, previous: Any) -> None:
        """Take a change; it must fit what was told before, and be one."""
        assert self.copy.get(key) == previous != value
        self.copy[key] = value
        self.changes += 1

    def delete(self, key: ObjectKey, previous: Any) -> None:
        """Take a deletion; it must fit what was told before."""
        assert self.copy.pop(key) == previous
        self.changes += 1

    def replaced(self) -> None:
        """Count lists."""
        self.lists += 1


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.001)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubernetesObjects]:
    """An API server with three pods."""
    fake = KubernetesObjects(bookmark_s=0.1)
    for name in ("a", "b", "c"):
        fake.store.create(FOO, pod(name))
    async with serve(fake.http, server_context(SERVING, tmp_path)):
        yield fake


@asynccontextmanager
async def following(
    server: KubernetesObjects, token: str = "reviewer", **settings: Any
) -> AsyncIterator[tuple[Watch[str], Told]]:
    """Follow its pods for the length of a block."""
    connection = Connection(
        server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken(token)
    )
    api, told = KubernetesApi(connection, timeout_s=1.0), Told()
    given: dict[str, Any] = {"timing": QUICK, "page": 2, "follower": told, **settings}
    watch = Watch(api, PATH, name="kube/pods", project=node_of, **given)
    watch.start()
    try:
        yield watch, told
        assert dict(watch.objects) == told.copy
    finally:
        await watch.aclose()
        await api.aclose()


def nodes(watch: Watch[str]) -> dict[str, str]:
    """Return the nodes by name of their pods."""
    return {key.name: node for key, node in watch.objects.items()}


def watches_of(server: KubernetesObjects) -> int:
    """Count the watches that were begun."""
    return sum("watch" in query for _, _, query in server.asked)


def has(watch: Watch[str], name: str) -> bool:
    """Tell whether a pod is known."""
    return name in nodes(watch)


async def test_a_collection_is_listed_then_followed(server: KubernetesObjects) -> None:
    """New, changed and deleted objects are told once; changes of what is not kept tell nobody."""
    async with following(server) as (watch, told):
        await watch.synced()
        assert nodes(watch) == {"a": "n1", "b": "n1", "c": "n1"}
        await until(lambda: watch.synced_since is not None)
        server.store.create(FOO, pod("d", "n2"))
        server.store.merge(FOO._replace(name="a"), {"spec": {"nodeName": "n3"}})
        server.store.merge(FOO._replace(name="b"), {"metadata": {"labels": {"x": "y"}}})
        server.store.delete(FOO._replace(name="c"))
        await until(lambda: told.changes == 6)
        assert nodes(watch) == {"a": "n3", "b": "n1", "d": "n2"}
        assert (told.lists, server.listed()) == (1, 1)
        assert watch.health().ready


async def test_what_is_of_no_interest_is_not_kept(server: KubernetesObjects) -> None:
    """An object that the projection makes nothing of is as good as not there."""
    server.store.create(FOO, pod("failed", phase="Failed"))
    async with following(server) as (watch, _):
        await watch.synced()
        assert "failed" not in nodes(watch)
        await until(lambda: watch.synced_since is not None)
        server.store.merge(FOO._replace(name="a"), {"status": {"phase": "Failed"}})
        await until(lambda: "a" not in nodes(watch))
        server.store.merge(FOO._replace(name="a"), {"status": {"phase": "Running"}})
        await until(lambda: "a" in nodes(watch))


async def test_a_broken_watch_goes_on_where_it_was(server: KubernetesObjects) -> None:
    """Nothing is listed again, and nothing that happened meanwhile is lost."""
    async with following(server) as (watch, told):
        await until(lambda: server.watches == 1)
        for n in range(5):
            server.drop_watches()
            server.store.create(FOO, pod(f"new-{n}"))
            await until(partial(has, watch, f"new-{n}"))
        assert (told.lists, server.listed()) == (1, 1)


async def test_a_watch_that_the_server_ends_goes_on(server: KubernetesObjects) -> None:
    """Each watch has an end; the next begins where it ended, and sync was never lost."""
    timing = Timing(lasts_s=0.7, silence_s=5.0, first_pause_s=0.01, settled_s=0.05)
    async with following(server, timing=timing, random=lambda: 0.0) as (watch, told):
        await until(lambda: watch.synced_since is not None)
        since = watch.synced_since
        await until(lambda: watches_of(server) >= 3)
        assert watch.synced_since == since
        assert told.lists == 1
        lengths = {q["timeoutSeconds"] for _, _, q in server.asked if "watch" in q}
        assert lengths == {"1"}


@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_forgotten_version_is_listed_anew(
    server: KubernetesObjects, *, in_stream: bool
) -> None:
    """410, as an event or as a status: what is missing from the new list is deleted."""
    server.gone_in_stream = in_stream
    async with following(server) as (watch, told):
        await until(lambda: server.watches == 1)
        server.refuse(3, 503)
        server.drop_watches()
        server.store.delete(FOO._replace(name="a"))
        server.store.create(FOO, pod("d"))
        server.store.compact()
        await until(lambda: nodes(watch) == {"b": "n1", "c": "n1", "d": "n1"})
        assert (told.lists, server.listed()) == (2, 2)
        await until(lambda: watch.synced_since is not None)


async def test_bookmarks_keep_a_quiet_watch_from_being_forgotten(
    server: KubernetesObjects,
) -> None:
    """After a bookmark the next watch begins at its version, so that nothing is listed again."""
    async with following(server, labels="chosen=yes") as (watch, told):
        await until(lambda: server.watches == 1)
        server.store.create(FOO, pod("other"))
        await asyncio.sleep(0.25)  # two bookmarks
        server.store.compact()
        server.drop_watches()
        await until(lambda: server.watches == 0)
        server.store.create(FOO, pod("mine", chosen="yes"))
        await until(lambda: nodes(watch) == {"mine": "n1"})
        assert told.lists == 1


async def test_a_list_that_is_gone_midway_is_begun_anew(server: KubernetesObjects) -> None:
    """A forgotten page costs a new list and nothing else."""
    server.expire_pages = True
    async with following(server) as (watch, told):
        await watch.synced()
        assert len(nodes(watch)) == 3
        assert (told.lists, server.listed()) == (1, 2)


async def test_a_silent_server_is_noticed(server: KubernetesObjects) -> None:
    """No bookmark in time: the connection is given up and taken up again."""
    async with following(server) as (watch, _):
        await until(lambda: watch.synced_since is not None)
        server.silent = True
        await until(lambda: watch.synced_since is None)
        assert "TimeoutError" in watch.health().detail
        server.silent = False
        await until(lambda: watch.synced_since is not None)
        server.store.create(FOO, pod("d"))
        await until(lambda: "d" in nodes(watch))


async def test_a_server_that_asks_us_to_wait_is_left_alone(server: KubernetesObjects) -> None:
    """After 429 with Retry-After nothing is asked until then, however short our own pauses are."""
    server.refuse(1, 429, {"Retry-After": "1"})
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with following(server) as (watch, _):
        await watch.synced()
        assert loop.time() - began_s >= 1.0
        assert [q.get("limit") for _, _, q in server.asked[:2]] == ["2", "2"]
        assert len(server.asked) <= 4


async def test_pauses_grow_and_are_spread(server: KubernetesObjects) -> None:
    """A server that fails is asked ever less often, and again often once it is well."""
    server.refuse(100, 500)
    timing = Timing(first_pause_s=0.01, longest_pause_s=10.0, settled_s=0.05)
    async with following(server, timing=timing, random=lambda: 1.0) as (watch, _):
        await asyncio.sleep(0.5)
        # 10, 20, 40, 80, 160 and 320 ms after one another: six tries are begun by then
        assert 3 <= len(server.asked) <= 7
        assert watch._pause_s() > 0.1
        server._refusals.clear()
        await until(lambda: watch.synced_since is not None)


async def test_health_says_what_is_wrong(server: KubernetesObjects) -> None:
    """Before the first list and after a while out of sync it is not ready; one line tells each."""
    server.refuse(5, 403)
    with capture_logs() as lines:
        async with following(server) as (watch, _):
            assert not watch.health().ready
            await until(lambda: "status 403" in watch.health().detail)
            assert not watch.health().ready
            await until(lambda: watch.synced_since is not None)
            assert watch.health().detail == "3 objects"
            server.refuse(1_000, 500)
            server.drop_watches()
            await until(lambda: watch.synced_since is None)
            assert watch.health().ready  # for half a minute what it knows is good enough
            assert "out of sync since" in watch.health().detail
            server._refusals.clear()
    events = [line["event"] for line in lines]
    assert events.count("watch in sync") >= 1
    assert events[0] == "watch lost, its objects are as they were"
    assert len(events) <= 6


async def test_an_object_that_cannot_be_read_is_not_there(server: KubernetesObjects) -> None:
    """Default deny: it is left out, health says so, and the others are followed."""
    server.store.create(FOO, {"metadata": {"name": "odd"}, "spec": {}})
    async with following(server) as (watch, _):
        await until(lambda: watch.synced_since is not None)
        assert watch.health().detail == "3 objects; 1 left out that cannot be read"
        server.store.merge(FOO._replace(name="a"), {"spec": {"nodeName": None}})
        await until(lambda: "a" not in nodes(watch))
        assert "2 left out" in watch.health().detail
        server.store.delete(FOO._replace(name="odd"))
        server.store.merge(FOO._replace(name="a"), {"spec": {"nodeName": "n9"}})
        await until(lambda: nodes(watch).get("a") == "n9")
        assert watch.health().detail == "3 objects"


@pytest.mark.parametrize(
    "stream",
    [
        b"<html>\n",
        b"[]\n",
        b"{}\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": 1}\n',
        b'{"type": "ADDED", "object": {"metadata": {}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": ""}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": 7}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "7"}}}\n',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "7", "name": 1}}}\n',
        b'{"type": "CHANGED", "object": {"metadata": {"resourceVersion": "7"}}}\n',
        b'{"type": "ERROR", "object": 1}\n',
        b'{"type": "ERROR", "object": {}}\n',
        b'{"type": "ERROR", "object": {"code": "x"}}\n',
        b"[" * 100_000 + b"\n",
        b"x" * 5_000_000,
    ],
)
async def test_nonsense_in_a_watch_is_a_fault(server: KubernetesObjects, stream: bytes) -> None:
    """It ends the watch, harms nothing, and is tried again with a pause."""
    nonsense = body(stream)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.query.get("watch"):
            return await nonsense(request)
        return await server.handle(request)

    server.http.paths[PATH] = answer
    async with following(server) as (watch, _):
        await until(lambda: "out of sync" in watch.health().detail and len(nodes(watch)) == 3)
        await asyncio.sleep(0.05)
        del server.http.paths[PATH]
        await until(lambda: watch.health().detail == "3 objects")


async def test_half_an_event_is_not_taken(server: KubernetesObjects) -> None:
    """A connection that breaks within a line loses nothing: the event comes again."""
    half = b'{"type": "DELETED", "object": {"metadata": {"resourceVersion": "999", "name": "a"'
    halves = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal halves
        if not request.query.get("watch") or halves:
            return await server.handle(request)
        halves += 1
        return await body(half)(request)

    server.http.paths[PATH] = answer
    async with following(server) as (watch, _):
        await until(lambda: server.watches == 1)
        assert len(nodes(watch)) == 3
        versions = {q["resourceVersion"] for _, _, q in server.asked if "watch" in q}
        assert versions == {"103"}


async def test_a_bug_in_a_follower_begins_anew(server: KubernetesObjects) -> None:
    """The snapshot is listed again after it, for nobody knows how far the follower came."""

    async def once() -> None:
        connection = Connection(
            server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
        )
        api = KubernetesApi(connection)

        class Broken(Told):
            def replaced(self) -> None:
                raise RuntimeError("a bug")

        watch = Watch(api, PATH, name="pods", project=node_of, follower=Broken())
        with pytest.raises(RuntimeError, match="a bug"):
            await watch.run()
        assert watch._version is None
        await api.aclose()

    await once()


async def test_without_a_follower_the_objects_are_there(server: KubernetesObjects) -> None:
    """Who only looks needs to implement nothing."""
    async with following(server, follower=None) as (watch, told):
        await until(lambda: server.watches == 1)
        server.store.create(FOO, pod("d"))
        await until(lambda: "d" in nodes(watch))
        server.store.delete(FOO._replace(name="d"))
        await until(lambda: "d" not in nodes(watch))
        told.copy.update(watch.objects)


@pytest.mark.parametrize(
    "document", [{}, {"metadata": None}, {"metadata": {"name": 1}}, {"metadata": {}}]
)
def test_an_object_without_a_name_is_a_fault(document: Any) -> None:
    """Names are what objects are told apart by."""
    with pytest.raises(BackendUnavailable, match="without a name"):
        key_of(document)
