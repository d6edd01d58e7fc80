"""The roots in a ClusterTrustBundle, where the API server has that kind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from meshsigner.cluster.term import Term
from meshsigner.cluster.trust_bundle import NAME, SIGNER, TrustBundle
from meshsigner.cluster.writing import Pace, Writer
from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from tests.fakes.http_server import body, serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
V1, BETA = (
    Address(f"/apis/certificates.k8s.io/{version}", "clustertrustbundles")
    for version in ("v1", "v1beta1")
)
NOT_FOUND = body(b'{"kind": "Status", "reason": "NotFound"}', status=404)


@asynccontextmanager
async def _running(
    server: KubernetesObjects, text: Callable[[], str]
) -> AsyncIterator[TrustBundle]:
    connection = Connection(
        server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
    )
    api = KubernetesApi(connection, timeout_s=2.0)
    bundle = TrustBundle(api, Writer(api, Term(9.0, lambda: 0.0), Pace(100.0)), text)
    running = asyncio.create_task(bundle.run())
    try:
        yield bundle
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await api.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_newest_served_version_is_kept(tmp_path: Path) -> None:
    """Made once, changed with the roots, and not written again while it is right."""
    server, text = KubernetesObjects(bookmark_s=0.1), ["roots 1"]
    async with (
        serve(server.http, server_context(SERVING, tmp_path)),
        _running(server, lambda: text[0]) as bundle,
    ):
        await until(bundle.is_right)
        address = V1._replace(name=NAME)
        spec = server.store.get(address)["spec"]
        assert spec == {"signerName": SIGNER, "trustBundle": "roots 1"}
        text[0] = "roots 2"
        assert not bundle.is_right()
        await until(bundle.is_right)
        assert server.store.get(address)["spec"]["trustBundle"] == "roots 2"
        writes = [method for method, _, _ in server.asked if method in {"POST", "PATCH"}]
        assert writes == ["POST", "PATCH"]


async def test_cluster_without_the_kind_needs_none(tmp_path: Path) -> None:
    """Once the API server has said that it knows no version, the bundle holds nobody up."""
    server = KubernetesObjects()
    for address in (V1, BETA):
        server.http.paths[f"{address.api}/{address.plural}"] = NOT_FOUND
    async with (
        serve(server.http, server_context(SERVING, tmp_path)),
        _running(server, lambda: "roots") as bundle,
    ):
        assert not bundle.is_right(), "it is not known yet"
        await until(bundle.is_right)
        assert not bundle.is_served


async def test_nothing_is_written_while_there_are_no_roots(tmp_path: Path) -> None:
    """An empty bundle would cut everybody off."""
    server = KubernetesObjects(bookmark_s=0.1)
    async with (
        serve(server.http, server_context(SERVING, tmp_path)),
        _running(server, lambda: "") as bundle,
    ):
        await asyncio.sleep(0.3)
        assert server.store.list(V1) == []
        assert not bundle.is_right()
