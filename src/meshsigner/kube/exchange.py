"""One request to an API server and its answer: credentials, bounds, and waiting when told to.

Leaves to its users what to ask and what an answer means. Whatever keeps the
server from answering is `BackendUnavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from meshsigner.errors import BackendUnavailable
from meshsigner.kube.connection import Connection, ConnectionSource, read_at_most
from meshsigner.kube.refusals import refusal

MAX_ANSWER_BYTES = 256 * 1024
MAX_REFUSAL_BYTES = 16 * 1024
JSON = "application/json"
ANYTHING = "*/*"

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "meshsigner"}
_SUCCESS = frozenset({200, 201})
_UNAUTHORIZED = 401
_TOO_MANY_REQUESTS = 429


class Exchange:
    """Requests to one API server.

    Args:
        source: Where it is and how we prove each other; asked before each request.
        timeout_s: Longest time for one request, and for one to begin to be answered.
        max_connections: Connections at once.
    """

    def __init__(self, source: ConnectionSource, *, timeout_s: float, max_connections: int) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._quiet_until_s = 0.0
        self._closed = False

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._source.current().server

    async def call(
        self,
        method: str,
        path: str,
        *,
        document: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
        limit_bytes: int = MAX_ANSWER_BYTES,
        accept: str = JSON,
        secret: bool = False,
    ) -> bytes:
        """Make one request and return the body of an answer of success (200, 201).

        A refused credential that has been renewed since is shown anew, once.

        Args:
            method: HTTP method.
            path: Starts with a slash.
            document: Object to send.
            content_type: What it is.
            query: Parameters.
            limit_bytes: Longest answer.
            accept: Which media types are taken.
            secret: The request holds a secret, so nothing of a refusal is quoted: a
                server in disorder may echo it.

        Raises:
            BackendUnavailable: There is no such answer.
            ApiRefused: The answer is another one; by its status, one of its kinds.
        """
        request = _Request(method, path, document, content_type, query, accept)
        limits = aiohttp.ClientTimeout(total=self._timeout_s)
        async with self._answer(request, limits, secret=secret) as response:
            return await read_at_most(response, limit_bytes)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, silence_s: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Begin an answer that goes on for a long time.

        Args:
            path: Starts with a slash.
            query: Parameters.
            silence_s: Longest time without a byte, seconds.

        Raises:
            BackendUnavailable: As `call`, and while it is read: it broke, or fell silent.
        """
        request = _Request("GET", path, None, JSON, query, JSON)
        limits = aiohttp.ClientTimeout(total=None, connect=self._timeout_s, sock_read=silence_s)
        async with self._answer(request, limits, begins_within_s=self._timeout_s) as response:
            yield response.content

    async def aclose(self) -> None:
        """Close all connections; from now on there is no answer."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _answer(
        self,
        request: "_Request",
        limits: aiohttp.ClientTimeout,
        *,
        begins_within_s: float | None = None,
        secret: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if asyncio.get_running_loop().time() < self._quiet_until_s:
            raise BackendUnavailable(f"{self.server} asked us to wait, the time is not over")
        if self._closed:
            raise BackendUnavailable("the connection to this API server is closed")
        what = f"{self.server}: {request.method} {request.path}"
        try:
            async with asyncio.timeout(begins_within_s):
                response = await self._send(request, limits)
            async with response:
                await self._check(response, what, secret=secret)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BackendUnavailable(f"{what}: {type(error).__name__}") from error

    async def _send(
        self, request: "_Request", limits: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        connection = self._source.current()
        token = connection.token.current() if connection.token is not None else None
        response = await self._send_as(connection, token, request, limits)
        if response.status != _UNAUTHORIZED or connection.token is None:
            return response
        connection.token.refused()
        renewed = self._source.current()
        other = renewed.token.current() if renewed.token is not None else None
        if other in {None, token}:
            return response
        response.release()
        return await self._send_as(renewed, other, request, limits)

    async def _send_as(
        self,
        connection: Connection,
        token: str | None,
        request: "_Request",
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {**_HEADERS, "Accept": request.accept}
        if request.document is not None:
            headers["Content-Type"] = request.content_type
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self._open().request(
            request.method,
            connection.server + request.path,
            params=request.query,
            headers=headers,
            json=request.document,
            ssl=connection.tls.context(),
            server_hostname=connection.server_name,
            allow_redirects=False,
            timeout=limits,
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _check(self, response: aiohttp.ClientResponse, what: str, *, secret: bool) -> None:
        if response.status in _SUCCESS:
            return
        body = b"" if secret else await read_at_most(response, MAX_REFUSAL_BYTES)
        retry_after = response.headers.get("Retry-After", "")
        error = refusal(what, response.status, body, retry_after)
        if response.status == _TOO_MANY_REQUESTS:
            pause_s = error.retry_after_s or 0.0
            self._quiet_until_s = asyncio.get_running_loop().time() + pause_s
        raise error


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent.

    Attributes:
        method: HTTP method.
        path: Starts with a slash.
        document: Object to send.
        content_type: What it is.
        query: Parameters.
        accept: Which media types are taken.
    """

    method: str
    path: str
    document: Mapping[str, Any] | None = field(repr=False)
    content_type: str
    query: Mapping[str, str] | None
    accept: str
