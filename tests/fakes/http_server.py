"""An HTTPS server on loopback that answers, or misbehaves as real ones do.

`paths` holds what each path answers; a test changes it while the server runs.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class HttpServer:
    """What it answers and what it was asked.

    Attributes:
        url: Where it listens, without a slash at the end.
        paths: Handler for each path.
        fallback: Handler of all other paths; None answers 404.
        requests: Path and headers of each request so far.
    """

    url: str = ""
    paths: dict[str, Handler] = field(default_factory=dict)
    fallback: Handler | None = None
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.requests.append((request.path, request.headers.copy()))
        handler = self.paths.get(request.path, self.fallback)
        return await handler(request) if handler is not None else web.Response(status=404)


@asynccontextmanager
async def serve(
    server: HttpServer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """Run a server; its URL names the address it listens on."""
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield
    finally:
        await runner.cleanup()


def body(data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """Answer with a body."""

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=data, status=status, headers=headers)

    return handler


def redirect(to: str) -> Handler:
    """Send the client elsewhere."""
    return body(b"", 302, {"Location": to})


async def stall(_: web.BaseRequest) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    return web.Response()


def half_body(status: int = 200) -> Handler:
    """Announce a body, send half of it and break the connection."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{" * 500)
        if request.transport is not None:
            request.transport.abort()
        return response

    return handler


def endless(status: int = 200) -> Handler:
    """Send a body without a length, until the client has enough."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        for _ in range(1024):  # 4 MiB
            try:
                await response.write(b" " * 4096)
            except ConnectionResetError:
                break
        return response

    return handler
