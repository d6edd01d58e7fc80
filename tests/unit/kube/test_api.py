"""The client of an API server, against a strict server that misbehaves as real ones do."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from meshsigner.errors import BackendUnavailable
from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from tests.fakes.http_server import Handler, body, endless, half_body, redirect, serve, stall
from tests.fakes.kubernetes_api import TOKEN_REVIEWS, KubernetesApiServer, authenticated, refused
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1", "kubernetes.default.svc")
TOKEN = "eyJhbGciOiJSUzI1NiJ9.the-token-of-a-workload.c2ln"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubernetesApiServer]:
    """An API server that knows one token."""
    fake = KubernetesApiServer(accounts={TOKEN: authenticated()})
    async with serve(fake.http, server_context(SERVING, tmp_path)):
        yield fake


def connect(server: KubernetesApiServer, reviewer: str = "reviewer", **fields: Any) -> Connection:
    """Return a connection to it with a reviewer's token."""
    return Connection(
        server=server.http.url,
        tls=fields.pop("tls", TlsFiles(ca=ROOTS.pem)),
        token=BearerToken(reviewer),
        **fields,
    )


@pytest.fixture
async def api(server: KubernetesApiServer) -> AsyncIterator[KubernetesApi]:
    """A client of it."""
    made = KubernetesApi(connect(server), timeout_s=0.5)
    yield made
    await made.aclose()


async def fault(api: KubernetesApi) -> str:
    """Return why there is no answer; it never quotes the token."""
    with pytest.raises(BackendUnavailable) as caught:
        await api.create_token_review(TOKEN, ["istio-ca"])
    assert TOKEN not in str(caught.value)
    assert "reviewer" not in str(caught.value)
    return str(caught.value)


async def test_a_review_is_what_a_real_server_takes(
    api: KubernetesApi, server: KubernetesApiServer
) -> None:
    """Kind, version, audiences and credential pass a server that checks all of them."""
    assert await api.create_token_review(TOKEN, ["istio-ca"]) == authenticated()
    assert await api.create_token_review("other", ["a", "b"]) == refused()
    assert server.reviewed == [TOKEN, "other"]


async def test_connections_are_used_again(api: KubernetesApi, server: KubernetesApiServer) -> None:
    """A review costs no handshake but the first."""
    peers = set()

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        return await server._review(request)

    server.misbehaviour = note
    for _ in range(5):
        await api.create_token_review(TOKEN, ["istio-ca"])
    assert len(peers) == 1


async def test_calls_at_once_are_bounded(server: KubernetesApiServer) -> None:
    """No more connections than were allowed, whatever is asked."""
    api = KubernetesApi(connect(server), max_connections=2)
    server.gate.clear()
    calls = [asyncio.create_task(api.create_token_review(TOKEN, ["istio-ca"])) for _ in range(10)]
    async with asyncio.timeout(5):
        while server.in_flight < 2:
            await asyncio.sleep(0.001)
    server.gate.set()
    await asyncio.gather(*calls)
    assert server.most_in_flight == 2
    await api.aclose()


def echo(**changes: Any) -> Handler:
    """Answer a review with parts of it changed."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        review = json.loads(await request.read())
        return web.json_response({**review, "status": authenticated(), **changes}, status=201)

    return handler


@pytest.mark.parametrize(
    ("misbehaviour", "cause"),
    [
        (stall, "TimeoutError"),
        (half_body(201), "Client"),
        (endless(201), "an answer longer than 262144 bytes"),
        (redirect("https://attacker.example/"), "status 302"),
        (body(b"", 500), "status 500"),
        (body(b"", 503), "status 503"),
        (body(b"", 504), "status 504"),
        (body(b"", 400), "status 400"),
        (body(b"{}", 200), "no token review in it (KeyError)"),
        (body(b"", 201), "no token review in it (JSONDecodeError)"),
        (body(b"<html>login</html>", 201), "no token review in it (JSONDecodeError)"),
        (body(b"[]", 201), "no token review in it (TypeError)"),
        (body(b"{}", 201), "no token review in it (KeyError)"),
        (body(b"\xff\xfe", 201), "no token review in it"),
        (body(b"[" * 100_000, 201), "no token review in it (RecursionError)"),
        (body(b" " * 300_000, 201), "an answer longer than 262144 bytes"),
        (body(b"x", 201, {"Content-Encoding": "gzip"}), "a compressed answer"),
        (echo(kind="Status"), "answers another question"),
        (echo(spec={"token": "another"}), "answers another question"),
        (echo(spec={}), "no token review in it (KeyError)"),
        (echo(status=None), "no status"),
        (echo(status=[]), "no status"),
    ],
)
async def test_statement_16_whatever_a_server_does_is_not_the_callers_fault(
    api: KubernetesApi, server: KubernetesApiServer, misbehaviour: Handler, cause: str
) -> None:
    """Stalls, half answers, redirects and answers to other questions are all UNAVAILABLE."""
    server.misbehaviour = misbehaviour
    assert cause in await fault(api)
    server.misbehaviour = None
    assert await api.create_token_review(TOKEN, ["istio-ca"]) == authenticated()


async def test_our_own_refused_credential_is_not_the_callers_fault(
    server: KubernetesApiServer, tmp_path: Path
) -> None:
    """401 makes us read the token file again for the next call."""
    file = tmp_path / "token"
    file.write_text("outdated")
    connection = Connection(
        server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken(file)
    )
    api = KubernetesApi(connection)
    assert "status 401, our own credential was refused" in await fault(api)
    file.write_text("reviewer")
    assert await api.create_token_review(TOKEN, ["istio-ca"]) == authenticated()
    await api.aclose()


async def test_a_missing_right_is_told_with_its_remedy(server: KubernetesApiServer) -> None:
    """403 names the role that an operator must bind."""
    server.forbidden.add("reviewer")
    api = KubernetesApi(connect(server))
    assert "system:auth-delegator" in await fault(api)
    await api.aclose()


@pytest.mark.parametrize("retry_after", ["30", "0", "soon", "", "-1", "99999999", "1"])
async def test_a_server_that_asks_us_to_wait_is_left_alone(
    server: KubernetesApiServer, retry_after: str
) -> None:
    """After 429 nothing is sent until the time is over, at most 30 s; then calls work again."""
    api = KubernetesApi(connect(server))
    headers = {"Retry-After": retry_after} if retry_after else {}
    server.misbehaviour = body(b"", 429, headers)
    assert "status 429, it asked us to wait" in await fault(api)
    server.misbehaviour = None
    left_s = api._exchange._quiet_until_s - asyncio.get_running_loop().time()
    expected_s = {"30": 30.0, "0": 0.0}.get(retry_after, 1.0)
    assert expected_s - 0.5 < left_s <= expected_s
    if left_s > 0:
        assert "the time is not over" in await fault(api)
        assert len(server.http.requests) == 1
    api._exchange._quiet_until_s = 0.0
    assert await api.create_token_review(TOKEN, ["istio-ca"]) == authenticated()
    await api.aclose()


async def test_a_server_that_is_away_is_unavailable() -> None:
    """Nobody listens: the address and the kind of fault are told."""
    connection = Connection(server="https://127.0.0.1:1", tls=TlsFiles(ca=ROOTS.pem))
    api = KubernetesApi(connection)
    assert "https://127.0.0.1:1: POST" in await fault(api)
    await api.aclose()


async def test_a_server_under_other_roots_is_not_believed(server: KubernetesApiServer) -> None:
    """No token is sent to a server that cannot prove itself."""
    api = KubernetesApi(connect(server, tls=TlsFiles(ca=TestRoots().pem)))
    assert "Certificate" in await fault(api)
    assert server.http.requests == []
    await api.aclose()


async def test_a_server_of_another_name_is_not_believed(tmp_path: Path) -> None:
    """The name counts too; `tls-server-name` says which one to expect."""
    server = KubernetesApiServer(accounts={TOKEN: authenticated()})
    named = ROOTS.issue("kubernetes.default.svc")
    async with serve(server.http, server_context(named, tmp_path)):
        wrong = KubernetesApi(connect(server))
        assert "Certificate" in await fault(wrong)
        assert server.http.requests == []
        right = KubernetesApi(connect(server, server_name="kubernetes.default.svc"))
        assert await right.create_token_review(TOKEN, ["istio-ca"]) == authenticated()
        await wrong.aclose()
        await right.aclose()


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """A server that demands one gets it."""
    server = KubernetesApiServer(accounts={TOKEN: authenticated()})
    client = ROOTS.issue("client")
    tls = TlsFiles(ca=ROOTS.pem, certificate=client.certificate, key=client.key)
    async with serve(server.http, server_context(SERVING, tmp_path, ROOTS.pem)):
        api = KubernetesApi(connect(server, tls=tls))
        assert await api.create_token_review(TOKEN, ["istio-ca"]) == authenticated()
        await api.aclose()
        without = KubernetesApi(connect(server))
        assert "POST" in await fault(without)
        await without.aclose()


async def test_a_path_is_read_as_it_is(api: KubernetesApi, server: KubernetesApiServer) -> None:
    """`read` returns the body of a 200 and nothing else."""
    server.http.paths["/openid/v1/jwks"] = body(b'{"keys": []}')
    assert await api.read("/openid/v1/jwks") == b'{"keys": []}'
    with pytest.raises(BackendUnavailable, match="GET /nowhere: status 404, there"):
        await api.read("/nowhere")
    server.http.paths["/big"] = endless()
    with pytest.raises(BackendUnavailable, match="longer than"):
        await api.read("/big")
    assert api.server == server.http.url


async def test_a_key_set_has_a_media_type_of_its_own(
    api: KubernetesApi, server: KubernetesApiServer
) -> None:
    """A real API server answers 406 to those who do not take `application/jwk-set+json`."""

    async def strict(request: web.BaseRequest) -> web.StreamResponse:
        takes = request.headers["Accept"]
        fits = "*/*" in takes or "application/jwk-set+json" in takes
        return web.Response(body=b"{}", status=200 if fits else 406)

    server.http.paths["/openid/v1/jwks"] = strict
    assert await api.read("/openid/v1/jwks") == b"{}"


async def test_the_credential_is_sent_with_every_call(
    api: KubernetesApi, server: KubernetesApiServer
) -> None:
    """As a bearer token, over a client that asks for no compression and keeps no cookies."""
    server.http.paths["/x"] = body(b"", 200, {"Set-Cookie": "a=b"})
    await api.read("/x")
    await api.read("/x")
    for _, headers in server.http.requests:
        assert headers["Authorization"] == "Bearer reviewer"
        assert headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in headers


def test_the_fakes_path_is_ours() -> None:
    """Both sides name the same resource."""
    from meshsigner.kube import api as module  # noqa: PLC0415 - compared here only

    assert module.TOKEN_REVIEWS == TOKEN_REVIEWS
