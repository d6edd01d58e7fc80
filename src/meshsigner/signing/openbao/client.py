"""Calls to OpenBao with our own token: what its backends talk through.

Joins connection, token and the table of answers. A 403 says "bad token" and
"not allowed" with the same words, so one fresh login is tried before it is
told as a denial.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self

from meshsigner.background import Background
from meshsigner.signing.openbao.answers import FORBIDDEN, JsonObject, check_answer
from meshsigner.signing.openbao.connection import OpenBaoConnection
from meshsigner.signing.openbao.settings import OpenBaoServer
from meshsigner.signing.openbao.tokens import TokenKeeper


class OpenBaoApi(Protocol):
    """What the backends want of a client."""

    async def start(self) -> None:
        """Keep the token fresh from now on."""
        ...

    async def aclose(self) -> None:
        """End what `start` began and close the connections."""
        ...

    async def call(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        deadline_s: float | None = None,
        maybe_issued: bool = False,
    ) -> Mapping[str, Any]:
        """Call, and return the answer's `data`."""
        ...


class OpenBaoClient:
    """One server, and who we are there.

    Args:
        settings: Where it is and how we log in.
    """

    def __init__(self, settings: OpenBaoServer) -> None:
        self._connection = OpenBaoConnection(settings)
        self._tokens = TokenKeeper(self._connection, settings.auth)
        self._background: Background | None = None

    async def start(self) -> None:
        """Keep the token fresh from now on."""
        self._background = Background(self._tokens.keep)

    async def aclose(self) -> None:
        """Renew no more and close the connections."""
        if self._background is not None:
            await self._background.stop()
        await self._connection.aclose()

    async def __aenter__(self) -> Self:
        """Use it for a few calls, without renewals."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        deadline_s: float | None = None,
        maybe_issued: bool = False,
    ) -> Mapping[str, Any]:
        """Call an engine.

        Args:
            method: HTTP method, or LIST.
            path: Below /v1/.
            body: Sent as JSON.
            deadline_s: Nobody waits longer, in seconds of the event loop's clock.
            maybe_issued: A certificate that is paid for may exist if no clear answer comes.

        Returns:
            The answer's `data`; empty where it has none.

        Raises:
            BackendUnavailable: No answer, no login, or a no to everybody.
            BackendRefused: A no to this request.
            Overloaded: A quota.
        """
        token = await self._tokens.token()
        answer = await self._connection.request(
            method, path, body, token=token, deadline_s=deadline_s, maybe_issued=maybe_issued
        )
        if answer.status == FORBIDDEN:
            fresh = await self._tokens.another(token)
            if fresh is not None:
                answer = await self._connection.request(
                    method,
                    path,
                    body,
                    token=fresh,
                    deadline_s=deadline_s,
                    maybe_issued=maybe_issued,
                )
        data = check_answer(answer, path, maybe_issued=maybe_issued).get("data")
        return data if isinstance(data, dict) else {}
