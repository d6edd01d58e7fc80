"""Verbs on objects, against a server that is as strict about versions as a real one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from meshsigner.errors import BackendUnavailable
from meshsigner.kube import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    ApiRefused,
    BearerToken,
    Conflict,
    Connection,
    Gone,
    KubernetesApi,
    NotAllowed,
    NotFound,
    Throttled,
    TlsFiles,
)
from meshsigner.kube.refusals import refusal
from tests.fakes.http_server import body, serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
PATH = CONFIG_MAPS.collection("foo")
ONE = CONFIG_MAPS.object("one", "foo")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubernetesObjects]:
    """An API server without objects."""
    fake = KubernetesObjects()
    async with serve(fake.http, server_context(SERVING, tmp_path)):
        yield fake


@pytest.fixture
async def api(server: KubernetesObjects) -> AsyncIterator[KubernetesApi]:
    """A client of it."""
    connection = Connection(
        server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
    )
    made = KubernetesApi(connection, timeout_s=2.0)
    yield made
    await made.aclose()


async def test_an_object_is_created_read_changed_and_deleted(
    api: KubernetesApi, server: KubernetesObjects
) -> None:
    """Each write returns what became of it, and is booked under our name."""
    made = await api.create(PATH, {"metadata": {"name": "one"}, "data": {"a": "1"}})
    assert await api.get(ONE) == made
    changed = await api.patch(ONE, {"data": {"a": None, "b": "2"}})
    assert changed["data"] == {"b": "2"}
    replaced = await api.replace(ONE, {**changed, "data": {"c": "3"}})
    assert (await api.get(ONE))["data"] == replaced["data"] == {"c": "3"}
    await api.delete(ONE)
    with pytest.raises(NotFound, match="configmaps 'one' not found"):
        await api.get(ONE)
    writes = [query for method, _, query in server.asked if method in {"POST", "PUT", "PATCH"}]
    assert writes == [{"fieldManager": "meshsigner"}] * 3


async def test_stale_writes_are_conflicts(api: KubernetesApi) -> None:
    """Who writes what somebody else has changed meanwhile is told, and nothing is written."""
    made = await api.create(PATH, {"metadata": {"name": "one"}, "data": {}})
    with pytest.raises(Conflict) as caught:
        await api.create(PATH, {"metadata": {"name": "one"}})
    assert (caught.value.status, caught.value.reason_word) == (409, "AlreadyExists")
    await api.patch(ONE, {"data": {"a": "1"}})
    with pytest.raises(Conflict):
        await api.replace(ONE, made)
    stale = {"resourceVersion": made["metadata"]["resourceVersion"]}
    with pytest.raises(Conflict):
        await api.patch(ONE, {"metadata": stale, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        await api.delete(ONE, resource_version=stale["resourceVersion"])
    with pytest.raises(Conflict):
        await api.delete(ONE, uid="another")
    assert (await api.get(ONE))["data"] == {"a": "1"}
    await api.delete(ONE, uid=made["metadata"]["uid"])


async def test_a_list_comes_in_pages_of_one_moment(
    api: KubernetesApi, server: KubernetesObjects
) -> None:
    """Objects that appear while it is read are not in it."""
    for n in range(7):
        server.store.create(Address("/api/v1", "configmaps", "foo"), {"metadata": {"name": f"{n}"}})
    names: list[list[str]] = []
    versions = set()
    async for page in api.pages(PATH, page=3):
        names.append([item["metadata"]["name"] for item in page.items])
        versions.add(page.resource_version)
        late = {"metadata": {"name": f"x{len(names)}"}}
        server.store.create(Address("/api/v1", "configmaps", "foo"), late)
    assert names == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert versions == {"107"}
    assert len((await api.list(PATH)).items) == 10
    assert (await api.list(PATH, fields="metadata.name=x1")).items[0]["metadata"]["name"] == "x1"
    assert (await api.list(PATH, labels="a=b")).items == []


async def test_a_list_that_took_too_long_is_gone(
    api: KubernetesApi, server: KubernetesObjects
) -> None:
    """The token for the next page is forgotten after minutes; the list is begun anew."""
    for n in range(3):
        server.store.create(Address("/api/v1", "configmaps", "foo"), {"metadata": {"name": f"{n}"}})
    server.expire_pages = True
    with pytest.raises(Gone):
        [page async for page in api.pages(PATH, page=2)]


async def test_a_big_object_is_read_whole(api: KubernetesApi) -> None:
    """Objects may be longer than the answers that strangers cause."""
    await api.create(PATH, {"metadata": {"name": "one"}, "data": {"a": "x" * 1_000_000}})
    assert len((await api.get(ONE))["data"]["a"]) == 1_000_000
    with pytest.raises(BackendUnavailable, match="longer than 262144 bytes"):
        await api.read(ONE)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b'{"metadata": {}}',
        b'{"metadata": 1, "items": []}',
        b'{"metadata": {"resourceVersion": "1"}, "items": {"a": 1}}',
        b"[" * 100000,
        b'{"metadata": {"resourceVersion": 1}, "items": []}',
    ],
)
async def test_an_answer_that_is_no_list_is_a_fault(
    api: KubernetesApi, server: KubernetesObjects, answer: bytes
) -> None:
    """Whatever stands between us and the server may answer in its place."""
    server.http.paths[PATH] = body(answer)
    with pytest.raises(BackendUnavailable, match=r"no (list|object) in the answer"):
        await api.list(PATH)


async def test_a_renewed_token_is_shown_at_once(server: KubernetesObjects, tmp_path: Path) -> None:
    """A refused token is read again; only if the file holds another one the call is repeated."""
    file = tmp_path / "token"
    file.write_text("old")
    server.credentials = {"old"}
    api = KubernetesApi(
        Connection(server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken(file))
    )
    await api.create(PATH, {"metadata": {"name": "one"}})
    server.credentials = {"new"}
    with pytest.raises(ApiRefused, match="our own credential was refused"):
        await api.get(ONE)
    assert len(server.asked) == 2
    file.write_text("new")
    await api.get(ONE)
    assert len(server.asked) == 4
    await api.aclose()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (429, Throttled),
        (400, ApiRefused),
        (422, ApiRefused),
        (500, ApiRefused),
        (503, ApiRefused),
    ],
)
async def test_a_no_is_told_by_its_kind(
    api: KubernetesApi, server: KubernetesObjects, code: int, kind: type[ApiRefused]
) -> None:
    """All are faults of ours as far as a caller is concerned."""
    server.refuse(1, code, reason="Because")
    with pytest.raises(BackendUnavailable) as caught:
        await api.get(ONE)
    assert type(caught.value) is kind
    assert f"GET {ONE}: status {code}" in str(caught.value)
    assert caught.value.reason_word == "Because"


async def test_nobody_is_sent_elsewhere(api: KubernetesApi, server: KubernetesObjects) -> None:
    """A redirect is a refusal: our credential goes to the API server alone."""

    async def elsewhere(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "https://attacker.example/"})

    server.http.paths[ONE] = elsewhere
    with pytest.raises(ApiRefused, match="status 307"):
        await api.get(ONE)


async def test_a_silent_server_is_given_up(server: KubernetesObjects) -> None:
    """Time-outs count from the start of a call, whatever the server sends meanwhile."""
    api = KubernetesApi(
        Connection(
            server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
        ),
        timeout_s=0.1,
    )

    async def trickle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        for _ in range(1_000):
            await asyncio.sleep(0.01)
            await response.write(b" ")
        return response

    server.http.paths[ONE] = trickle
    with pytest.raises(BackendUnavailable, match="TimeoutError"):
        await api.get(ONE)
    await api.aclose()


def test_paths_are_those_of_the_api() -> None:
    """With and without a group, a namespace, and a name that needs escaping."""
    assert PODS.collection() == "/api/v1/pods"
    assert PODS.object("bar-0", "foo") == "/api/v1/namespaces/foo/pods/bar-0"
    assert NAMESPACES.object("foo") == "/api/v1/namespaces/foo"
    bundle = CLUSTER_TRUST_BUNDLES[1].object("istio.io:istiod-ca:root-cert")
    assert bundle == (
        "/apis/certificates.k8s.io/v1beta1/clustertrustbundles/istio.io%3Aistiod-ca%3Aroot-cert"
    )
    assert PODS.object("../../secrets/x", "foo").endswith("/pods/..%2F..%2Fsecrets%2Fx")
    for resource, name, namespace in [(PODS, "", "foo"), (PODS, "a", ""), (NAMESPACES, "a", "b")]:
        with pytest.raises(ValueError, match="has no path"):
            resource.object(name, namespace)


@pytest.mark.parametrize("answer", [b"", b"[]", b'"x"', b'{"message": 1, "reason": []}', b"{"])
def test_a_refusal_needs_no_status_object(answer: bytes) -> None:
    """Proxies refuse in words of their own; the status is enough."""
    error = refusal("GET /x", 403, answer)
    assert (type(error), error.reason_word) == (NotAllowed, "")
    assert str(error).startswith("GET /x: status 403, our own account may not do this")


def test_what_was_sent_is_never_quoted() -> None:
    """400 and 422 repeat parts of the request, which may be secret; others are cut."""
    text = b'{"message": "tls.key: Invalid value: SECRET", "reason": "Invalid"}'
    assert "SECRET" not in str(refusal("PUT /x", 422, text))
    assert "SECRET" not in str(refusal("PUT /x", 400, text))
    assert len(str(refusal("GET /x", 404, b'{"message": "%s"}' % (b"a" * 5_000)))) < 500
