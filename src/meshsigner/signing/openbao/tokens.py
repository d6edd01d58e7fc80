"""Our token at OpenBao: from login to login, renewed in between.

Decides when to log in, when to renew and when to give up on a token. One login
at a time, however many requests want it; a login that is refused is not tried
again at once, so that a wrong secret id does not become a flood.

Source: OpenBao documentation, tokens (renewal, explicit maximum); renewed at
2/3 of the lease as OpenBao's own agent does.
"""

import asyncio
from dataclasses import dataclass, field

from meshsigner.errors import BackendUnavailable, MeshsignerError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.openbao.answers import FORBIDDEN, OK, JsonObject, check_answer, said
from meshsigner.signing.openbao.connection import OpenBaoConnection
from meshsigner.signing.openbao.login import login_request, read_secret
from meshsigner.signing.openbao.settings import Auth, TokenAuth

RENEW_AT = 2 / 3  # of the lease
PAUSE_S = 1.0  # between two attempts at a login or a renewal that failed
YOUNG_S = 2.0  # a token this young is not replaced for a refusal: it is the path that is denied
NEVER_S = 3_600.0  # a token without end is looked at this often
_SHRUNK = 0.5  # a renewal that gives less than this of the first lease meets the token's maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A token and how long it lasts.

    Attributes:
        token: The token.
        lasts_s: From `at_s` on, seconds; 0 for one without end.
        renewable: It can be renewed.
        at_s: When it was granted or renewed, seconds of the event loop's clock.
        granted_s: How long it lasted when it was new, seconds.
    """

    token: str = field(repr=False)
    lasts_s: float
    renewable: bool
    at_s: float
    granted_s: float

    def due_in_s(self, now_s: float) -> float:
        """Return in how many seconds it should be renewed."""
        if not self.lasts_s:
            return NEVER_S
        return max(0.0, self.at_s + self.lasts_s * RENEW_AT - now_s)


class TokenKeeper:
    """Keeps one valid token.

    Args:
        connection: To the server.
        auth: How to log in.
    """

    def __init__(self, connection: OpenBaoConnection, auth: Auth) -> None:
        self._connection = connection
        self._auth = auth
        self._lease: Lease | None = None
        self._lock = asyncio.Lock()
        self._refused: tuple[float, MeshsignerError] | None = None

    async def token(self) -> str:
        """Return a token for a request that is sent now; log in if there is none.

        Raises:
            BackendUnavailable: The login did not succeed.
            Overloaded: A quota kept us from logging in.
        """
        lease = self._lease
        return lease.token if lease is not None else (await self._log_in(None)).token

    async def another(self, refused: str) -> str | None:
        """Return another token than the one that was refused; None when there is none.

        Raises:
            BackendUnavailable: The login did not succeed.
            Overloaded: A quota kept us from logging in.
        """
        lease = self._lease
        if lease is not None and lease.token == refused and _now_s() - lease.at_s < YOUNG_S:
            return None
        fresh = await self._log_in(refused)
        return fresh.token if fresh.token != refused else None

    async def keep(self) -> None:
        """Renew the token in time, for ever."""
        while True:
            lease = self._lease
            await asyncio.sleep(PAUSE_S if lease is None else lease.due_in_s(_now_s()))
            if lease is not None and lease is self._lease:
                await self._extend(lease)

    async def _extend(self, lease: Lease) -> None:
        try:
            if not lease.lasts_s or not await self._renewed(lease):
                await self._replace(lease)
        except MeshsignerError as error:
            get_logger().warning(Event.BACKEND_LOGIN_FAILED, cause=str(error))
            await asyncio.sleep(PAUSE_S)

    async def _renewed(self, lease: Lease) -> bool:
        """Renew a lease; False when that does not give enough, and a login is due."""
        if not lease.renewable:
            return False
        path = "auth/token/renew-self"
        answer = await self._connection.request("POST", path, {}, token=lease.token)
        if answer.status == FORBIDDEN:
            return False
        found = _granted(check_answer(answer, path, maybe_issued=False), path, lease.granted_s)
        if found.lasts_s < lease.granted_s * _SHRUNK:
            return False
        self._lease = found
        return True

    async def _replace(self, lease: Lease) -> None:
        """Log in anew; a token from a file that is the same as before is used to its end."""
        fresh = await self._log_in(lease.token)
        if fresh.token == lease.token and fresh.lasts_s:
            get_logger().warning(
                Event.BACKEND_LOGIN_FAILED,
                cause=f"the token in the file ends in {fresh.lasts_s:.0f} s and cannot be "
                "renewed; put another one there",
            )
            await asyncio.sleep(PAUSE_S)

    async def _log_in(self, old: str | None) -> Lease:
        """Log in unless somebody else has done it meanwhile.

        Args:
            old: The token that shall be replaced; None when there was none.
        """
        async with self._lock:
            lease = self._lease
            if lease is not None and lease.token != old:
                return lease
            if self._refused is not None and _now_s() < self._refused[0]:
                raise BackendUnavailable(f"login refused a moment ago: {self._refused[1]}")
            try:
                self._lease = await self._lease_of_login()
            except MeshsignerError as error:
                self._lease = None
                self._refused = (_now_s() + PAUSE_S, error)
                raise
            return self._lease

    async def _lease_of_login(self) -> Lease:
        if isinstance(self._auth, TokenAuth):
            return await self._lease_of_file(self._auth)
        request = login_request(self._auth)
        answer = await self._connection.request("POST", request.path, request.body)
        if answer.status not in (OK, *_TRANSIENT):
            raise BackendUnavailable(
                f"{request.path}: the login was refused ({said(answer)}); check role, secret and "
                "mount of `auth`"
            )
        return _granted(check_answer(answer, request.path, maybe_issued=False), request.path)

    async def _lease_of_file(self, auth: TokenAuth) -> Lease:
        token, path = read_secret(auth.token_file), "auth/token/lookup-self"
        answer = await self._connection.request("GET", path, token=token)
        if answer.status == FORBIDDEN:
            raise BackendUnavailable(
                f"{auth.token_file}: OpenBao refuses this token ({said(answer)}): it has ended, "
                "was revoked or is none of this namespace; put another one there"
            )
        data = check_answer(answer, path, maybe_issued=False).get("data")
        found = data if isinstance(data, dict) else {}
        lasts_s = _number(found.get("ttl"), path)
        return Lease(
            token=token,
            lasts_s=lasts_s,
            renewable=found.get("renewable") is True,
            at_s=_now_s(),
            granted_s=max(lasts_s, _number(found.get("creation_ttl"), path)),
        )


_TRANSIENT = frozenset({429, 500, 501, 502, 503, 504, 472, 473})


def _granted(answer: JsonObject, path: str, granted_s: float | None = None) -> Lease:
    auth = answer.get("auth")
    found = auth if isinstance(auth, dict) else {}
    token = found.get("client_token")
    if not isinstance(token, str) or not token:
        raise BackendUnavailable(f"{path}: an answer without a token")
    lasts_s = _number(found.get("lease_duration"), path)
    return Lease(
        token=token,
        lasts_s=lasts_s,
        renewable=found.get("renewable") is True,
        at_s=_now_s(),
        granted_s=lasts_s if granted_s is None else granted_s,
    )


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BackendUnavailable(f"{path}: an answer without the length of its lease")
    return float(value)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
