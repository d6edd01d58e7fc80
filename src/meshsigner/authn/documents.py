"""Reads documents from HTTPS servers that may be wrong about everything but their name.

Decides which URLs are safe to take keys from and bounds what a server can do
to us: no redirect, no compression, no length without end. What the documents
say is left to `key_sources`.
"""

import ipaddress
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import aiohttp

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.kube import BearerToken, TlsFiles, read_at_most

MAX_DOCUMENT_BYTES = 256 * 1024

_OK = 200
_DEFAULT_PORTS = {"https": 443, "http": 80}


def check_url(url: str) -> str:
    """Refuse a URL over which anybody could hand us keys.

    Raises:
        ConfigurationError: Not https (http on loopback is for development), no
            host, or a password in it.
    """
    problem = url_problem(url)
    if problem is not None:
        raise ConfigurationError(f"key URL {url.rpartition('@')[2]}: {problem}")
    return url


def url_problem(url: str) -> str | None:
    """Say why keys from a URL could be anybody's, or None."""
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError:
        return "not a URL"
    if not parts.hostname:
        return "no host"
    if "@" in parts.netloc:
        return "a password has no place in a URL"
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return None
    return "https is needed (plain http on loopback only)"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_same_origin(one: str, other: str) -> bool:
    """Return whether two checked URLs lead to the same server."""
    return _origin(urlsplit(one)) == _origin(urlsplit(other))


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]


class Documents:
    """A client of one or two servers.

    Args:
        ca_file: Roots for the servers' certificates, PEM; None takes the system's.
        token_file: Bearer token for those that ask for one; None sends none.
    """

    def __init__(self, ca_file: Path | None, token_file: Path | None) -> None:
        self._tls = TlsFiles(ca=ca_file)
        self._token = BearerToken(token_file) if token_file is not None else None
        self._session: aiohttp.ClientSession | None = None

    async def read(self, url: str, *, with_token: bool) -> bytes:
        """Read a document.

        Args:
            url: A checked URL.
            with_token: Whether this server may see the token.

        Raises:
            BackendUnavailable: No answer with status 200 and at most 256 KiB.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": "meshsigner"}
        if self._token is not None and with_token:
            headers["Authorization"] = f"Bearer {self._token.current()}"
        if self._session is None:
            self._session = _open_session()
        try:
            async with self._session.get(
                url,
                headers=headers,
                # always, so that no spelling of `https` could slip past the check
                ssl=self._tls.context(),
                allow_redirects=False,
            ) as response:
                self._check_status(url, response.status)
                return await read_at_most(response, MAX_DOCUMENT_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(f"{url}: {type(error).__name__}") from error

    def _check_status(self, url: str, status: int) -> None:
        if status != _OK:
            if self._token is not None:
                self._token.refused()
            raise BackendUnavailable(f"{url}: status {status}, expected 200")

    async def aclose(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),  # `PublicKeys` bounds a whole refresh
        auto_decompress=False,
        trust_env=False,
    )
