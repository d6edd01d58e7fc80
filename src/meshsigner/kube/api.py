"""Talks to one API server: token reviews and plain reads.

Leaves it to its users what an answer means. Whatever keeps the server from
answering is `BackendUnavailable`: a caller of ours is never to blame for it.

Source: Kubernetes authentication.k8s.io/v1 TokenReview.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from meshsigner.errors import BackendUnavailable
from meshsigner.kube.connection import Connection, read_at_most

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
MAX_ANSWER_BYTES = 256 * 1024
MAX_PAUSE_S = 30.0

_CREATED = 201
_OK = 200
_UNAUTHORIZED = 401
_TOO_MANY_REQUESTS = 429
_HINTS = {
    _UNAUTHORIZED: "our own credential was refused",
    403: "our own account may not do this; for token reviews bind it to system:auth-delegator",
    _TOO_MANY_REQUESTS: "it asked us to wait",
}


class KubernetesApi:
    """One API server.

    Args:
        connection: Where it is and how we prove each other.
        timeout_s: Longest time for one call, seconds.
        max_connections: Connections at once.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout_s: float = 5.0,
        max_connections: int = 32,
    ) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None
        self._quiet_until_s = 0.0

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._connection.server

    async def create_token_review(self, token: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Ask whose token this is.

        Args:
            token: The token, not empty.
            audiences: For whom it must be made, at least one.

        Returns:
            The `status` of the review.

        Raises:
            BackendUnavailable: There is no answer, or one to another question.
        """
        review = {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        body = await self._call("POST", TOKEN_REVIEWS, _CREATED, review)
        return _review_status(body, token)

    async def get(self, path: str) -> bytes:
        """Read a path as it is, at most 256 KiB.

        Args:
            path: Starts with a slash.

        Raises:
            BackendUnavailable: There is no answer with status 200.
        """
        return await self._call("GET", path, _OK)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(
        self,
        method: str,
        path: str,
        expected: int,
        document: Mapping[str, Any] | None = None,
    ) -> bytes:
        if asyncio.get_running_loop().time() < self._quiet_until_s:
            raise BackendUnavailable(f"{self.server} asked us to wait, the time is not over")
        try:
            async with self._open().request(
                method,
                self.server + path,
                headers=self._headers(),
                json=document,
                ssl=self._connection.tls.context(),
                server_hostname=self._connection.server_name,
                allow_redirects=False,
            ) as response:
                self._check_status(response, method, path, expected)
                return await read_at_most(response, MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = f"{self.server}: {method} {path}: {type(error).__name__}"
            raise BackendUnavailable(what) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._max_connections),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _headers(self) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "meshsigner",
        }
        if self._connection.token is not None:
            headers["Authorization"] = f"Bearer {self._connection.token.current()}"
        return headers

    def _check_status(
        self,
        response: aiohttp.ClientResponse,
        method: str,
        path: str,
        expected: int,
    ) -> None:
        status = response.status
        if status == expected:
            return
        if status == _TOO_MANY_REQUESTS:
            pause_s = _pause_s(response.headers.get("Retry-After", ""))
            self._quiet_until_s = asyncio.get_running_loop().time() + pause_s
        if status == _UNAUTHORIZED and self._connection.token is not None:
            self._connection.token.refused()
        # The body is not quoted: a server in disorder may echo the token.
        hint = _HINTS.get(status, f"expected {expected}")
        raise BackendUnavailable(f"{self.server}: {method} {path}: status {status}, {hint}")


def _pause_s(retry_after: str) -> float:
    """Read Retry-After in seconds; the API server sends no dates."""
    return min(float(retry_after), MAX_PAUSE_S) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 1.0


def _review_status(body: bytes, token: str) -> Mapping[str, Any]:
    try:
        review = json.loads(body)
        status = review["status"]
        # The server echoes what it was asked: an answer to another question
        # would make one caller another.
        if review["kind"] != "TokenReview" or review["spec"]["token"] != token:
            raise BackendUnavailable("a token review that answers another question")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackendUnavailable(f"no token review in it ({type(error).__name__})") from None
    if not isinstance(status, dict):
        raise BackendUnavailable("no token review in it (no status)")
    return status
