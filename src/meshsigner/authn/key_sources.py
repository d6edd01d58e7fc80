"""Where the public keys of an issuer are read from: a file, a URL, discovery, the API server.

Talks to files and HTTPS servers, and hands on bytes. What is in them is
decided by `key_sets`, when they are read by `public_keys`. No server is
believed without its certificate, none may send us elsewhere.

Source: OpenID Connect Discovery 1.0 4 (configuration, issuer); Kubernetes
pkg/serviceaccount/openidmetadata.go (paths of the API server).
"""

import asyncio
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from meshsigner.authn.documents import Documents, check_url, is_same_origin, url_problem
from meshsigner.authn.key_sets import MAX_KEY_SET_BYTES
from meshsigner.authn.strict_json import InvalidJson, parse_object
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import KubernetesApi

FILE_EVERY_S = 2.0  # a small file: reading it is cheaper than missing a change
REMOTE_EVERY_S = 300.0

_DISCOVERY = "/.well-known/openid-configuration"
_DOWNGRADE = ("https", "http")
_API_SERVER_KEYS = "/openid/v1/jwks"


class KeySource(Protocol):
    """Something that holds a JWK set.

    Attributes:
        where: What it is, for people.
        every_s: How often to look for changes, seconds.
    """

    where: str
    every_s: float

    async def fetch(self) -> bytes:
        """Read the set as it is now.

        Raises:
            BackendUnavailable: It cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class FileKeys:
    """A JWK set in a file; any change is seen, Kubernetes' `..data` swaps too.

    Args:
        path: The file.
        every_s: How often to look for changes, seconds.
    """

    def __init__(self, path: Path, *, every_s: float = FILE_EVERY_S) -> None:
        self.where = str(path)
        self.every_s = every_s
        self._path = path

    async def fetch(self) -> bytes:
        """Read the file.

        Raises:
            BackendUnavailable: It cannot be read.
        """
        try:
            return await asyncio.to_thread(self._read)
        except OSError as error:
            raise BackendUnavailable(error.strerror or type(error).__name__) from error

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MAX_KEY_SET_BYTES + 1)  # the parser refuses what is longer

    async def aclose(self) -> None:
        """Do nothing: the file is not kept open."""


class UrlKeys:
    """A JWK set at a URL.

    Args:
        url: https, or http on loopback for development.
        ca_file: Roots for the server's certificate, PEM; None takes the system's.
        token_file: Bearer token that the server asks for; None sends none.
        every_s: How often to look for changes, seconds.

    Raises:
        ConfigurationError: Another URL.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        token_file: Path | None = None,
        every_s: float = REMOTE_EVERY_S,
    ) -> None:
        check_url(url)
        self.where = url
        self.every_s = every_s
        self._documents = Documents(ca_file, token_file)

    async def fetch(self) -> bytes:
        """Read the URL.

        Raises:
            BackendUnavailable: It cannot be read.
        """
        return await self._documents.read(self.where, with_token=True)

    async def aclose(self) -> None:
        """Close connections."""
        await self._documents.aclose()


class DiscoveredKeys:
    """A JWK set that the issuer's own discovery document points to.

    The token goes to the issuer alone: where the document points may be
    anybody's server.

    Args:
        issuer: Whose keys; https, or http on loopback for development.
        ca_file: Roots for both servers' certificates, PEM; None takes the system's.
        token_file: Bearer token that the issuer asks for; None sends none.
        every_s: How often to look for changes, seconds.

    Raises:
        ConfigurationError: An issuer that is no such URL.
    """

    def __init__(
        self,
        issuer: str,
        *,
        ca_file: Path | None = None,
        token_file: Path | None = None,
        every_s: float = REMOTE_EVERY_S,
    ) -> None:
        check_url(issuer)
        self.where = issuer.rstrip("/") + _DISCOVERY
        self.every_s = every_s
        self._issuer = issuer
        self._documents = Documents(ca_file, token_file)

    async def fetch(self) -> bytes:
        """Read the discovery document, then the keys that it names.

        Raises:
            BackendUnavailable: One of them cannot be read, or the document is
                of another issuer or points to a URL that is not protected.
        """
        url = _keys_url(await self._documents.read(self.where, with_token=True), self._issuer)
        return await self._documents.read(url, with_token=is_same_origin(url, self._issuer))

    async def aclose(self) -> None:
        """Close connections."""
        await self._documents.aclose()


class ApiServerKeys:
    """The keys of a cluster, from its own API server with our own credential.

    Discovery over the network often names an address of the API server that
    its certificate or a firewall does not allow; its own paths always work.

    Args:
        api: The API server; belongs to this source from now on.
        issuer: Whose keys.
        every_s: How often to look for changes, seconds.
    """

    def __init__(
        self,
        api: KubernetesApi,
        issuer: str,
        *,
        every_s: float = REMOTE_EVERY_S,
    ) -> None:
        self.where = f"{api.server}{_API_SERVER_KEYS}"
        self.every_s = every_s
        self._api = api
        self._issuer = issuer

    async def fetch(self) -> bytes:
        """Read the keys after making sure that they are the issuer's.

        Raises:
            BackendUnavailable: There is no answer, or the server is another issuer.
        """
        _check_issuer(await self._api.read(_DISCOVERY), self._issuer)
        return await self._api.read(_API_SERVER_KEYS)

    async def aclose(self) -> None:
        """Close connections."""
        await self._api.aclose()


def _check_issuer(document: bytes, issuer: str) -> object:
    """Return `jwks_uri` of a discovery document of this issuer.

    Source: OpenID Connect Discovery 1.0 4.3.
    """
    try:
        members = parse_object(document)
    except InvalidJson as error:
        raise BackendUnavailable(f"discovery document: {error}") from None
    if members.get("issuer") != issuer:
        raise BackendUnavailable(f"discovery document: its issuer is not {issuer}")
    return members.get("jwks_uri")


def _keys_url(document: bytes, issuer: str) -> str:
    url = _check_issuer(document, issuer)
    if not isinstance(url, str):
        raise BackendUnavailable("discovery document: no jwks_uri")
    problem = url_problem(url)
    if problem is None and (urlsplit(issuer).scheme, urlsplit(url).scheme) == _DOWNGRADE:
        problem = "not protected as the issuer itself is"
    if problem is not None:
        raise BackendUnavailable(f"discovery document: jwks_uri: {problem}")
    return url
