"""Requests to one OpenBao server over HTTPS, bounded in time and size.

Knows the wire and nothing of logins: what an answer means is `answers`' matter,
which token goes with it is `client`'s. A fault of the network says whether the
request can have reached the server.

Source: OpenBao API documentation (X-Vault-Token, X-Vault-Namespace,
X-Vault-Request).
"""

import asyncio
import json

import aiohttp

from meshsigner.errors import BackendUnavailable
from meshsigner.kube.connection import TlsFiles, read_at_most
from meshsigner.signing.openbao.answers import Answer, JsonObject
from meshsigner.signing.openbao.settings import OpenBaoServer
from meshsigner.trust.layout import expect_closed

MAX_ANSWER_BYTES = 1_048_576  # a batch of 500 RSA-4096 signatures has about 400,000
_CONNECT_SHARE = 2  # half of a call's time may go into the connection


class OpenBaoConnection:
    """One server.

    Args:
        settings: Where it is and how TLS is checked.

    Raises:
        ConfigurationError: The file of our private key is open to others.
    """

    def __init__(self, settings: OpenBaoServer) -> None:
        if settings.client_key is not None:
            expect_closed(settings.client_key)
        self._settings = settings
        self._tls = TlsFiles(
            ca=settings.ca_file,
            certificate=settings.client_certificate,
            key=settings.client_key,
        )
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        token: str = "",
        deadline_s: float | None = None,
        maybe_issued: bool = False,
    ) -> Answer:
        """Send one request and read its answer.

        Args:
            method: HTTP method; LIST is one of OpenBao's own.
            path: Below /v1/.
            body: Sent as JSON.
            token: Goes into the header; empty for none.
            deadline_s: Nobody waits longer, in seconds of the event loop's clock.
            maybe_issued: A certificate that is paid for may exist if no answer comes.

        Raises:
            BackendUnavailable: No answer came.
        """
        timeout_s = self._time_left_s(deadline_s)
        try:
            async with self._open().request(
                method,
                f"{self._settings.address}/v1/{path}",
                data=None if body is None else json.dumps(body).encode(),
                headers=self._headers(token),
                ssl=self._tls.context(),
                server_hostname=self._settings.server_name,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s, connect=timeout_s / _CONNECT_SHARE),
            ) as response:
                return Answer(
                    status=response.status,
                    body=await read_at_most(response, MAX_ANSWER_BYTES),
                    retry_after=response.headers.get("Retry-After", ""),
                    location=response.headers.get("Location", ""),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            text = f"{self._settings.address}: no connection ({_words(error)})"
            raise BackendUnavailable(text) from error
        except TimeoutError as error:
            text = f"{path}: no answer within {timeout_s:.1f} s"
            raise BackendUnavailable(text, maybe_issued=maybe_issued) from error
        except (aiohttp.ClientError, OSError) as error:
            text = f"{path}: the connection broke ({_words(error)})"
            raise BackendUnavailable(text, maybe_issued=maybe_issued) from error

    def _time_left_s(self, deadline_s: float | None) -> float:
        longest_s = self._settings.timeout.total_seconds()
        if deadline_s is None:
            return longest_s
        left_s = deadline_s - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise BackendUnavailable("no time left for a call")
        return min(longest_s, left_s)

    def _headers(self, token: str) -> dict[str, str]:
        headers = {
            "X-Vault-Request": "true",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }
        if token:
            headers["X-Vault-Token"] = token
        if self._settings.namespace is not None:
            headers["X-Vault-Namespace"] = self._settings.namespace
        return headers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._settings.in_flight + 1),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
