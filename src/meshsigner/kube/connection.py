"""How a server is verified and how we prove ourselves to it, over HTTPS.

Talks to files only: roots, client certificates and tokens that others renew in
place. What is said over the connection is left to its user; the key sources of
`authn` use these parts too.
"""

import asyncio
import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from meshsigner.errors import BackendUnavailable

REREAD_TOKEN_AFTER_S = 60.0  # the kubelet renews a token at 80 % of at least 10 minutes

_VISIBLE = re.compile(r"[!-~]+")

Pem = Path | bytes


class TlsFiles:
    """Makes the TLS context for one server, anew when a file changes.

    The server's certificate and name are always checked; there is no switch.

    Args:
        ca: Roots, PEM; None takes the system's.
        certificate: Our client certificate with its chain, PEM; goes with `key`.
        key: Its private key, PEM.

    Attributes:
        ca: As given.
    """

    def __init__(
        self,
        *,
        ca: Pem | None = None,
        certificate: Pem | None = None,
        key: Pem | None = None,
    ) -> None:
        self.ca = ca
        self._certificate = certificate
        self._key = key
        self._context: ssl.SSLContext | None = None
        self._versions: list[tuple[int, int, int]] = []

    def context(self) -> ssl.SSLContext:
        """Return the context for a connection that is opened now.

        Raises:
            BackendUnavailable: A file is not readable or not what it should be.
        """
        try:
            versions = [file_version(p) for p in self._files()]
            if self._context is None or versions != self._versions:
                self._context, self._versions = self._load(), versions
        except (OSError, ValueError) as error:
            where = ", ".join(map(str, self._files())) or "inline certificates"
            # OpenSSL's text names no content; the file's name says which to look at
            raise BackendUnavailable(f"TLS files {where}: {error}") from error
        return self._context

    def _files(self) -> list[Path]:
        return [p for p in (self.ca, self._certificate, self._key) if isinstance(p, Path)]

    def _load(self) -> ssl.SSLContext:
        if self.ca is None:
            context = ssl.create_default_context()
        else:
            # never the function above: where it is given nothing it takes the system's roots
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            with _as_file(self.ca) as roots:
                context.load_verify_locations(cafile=roots)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._certificate is not None and self._key is not None:
            with _as_file(self._certificate) as certificate, _as_file(self._key) as key:
                # An encrypted key must fail here instead of asking on a terminal.
                context.load_cert_chain(certificate, key, password=_no_password)
        return context


class BearerToken:
    """A token to prove ourselves with; one in a file is read again and again.

    Args:
        source: The file, or the token itself.
        reread_after_s: How long what was read from the file is used, seconds.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        reread_after_s: float = REREAD_TOKEN_AFTER_S,
    ) -> None:
        self._source = source
        self._reread_after_s = reread_after_s
        self._token = ""
        self._read_at_s: float | None = None

    def current(self) -> str:
        """Return the token for a request that is sent now.

        Raises:
            BackendUnavailable: The file is not readable or holds no token.
        """
        if isinstance(self._source, str):
            return self._source
        now_s = asyncio.get_running_loop().time()
        if self._read_at_s is None or now_s - self._read_at_s >= self._reread_after_s:
            self._token, self._read_at_s = _read_token(self._source), now_s
        return self._token

    def is_sendable(self) -> bool:
        """Tell whether a token that was given as it is may stand in a header."""
        return not isinstance(self._source, str) or bool(_VISIBLE.fullmatch(self._source))

    def refused(self) -> None:
        """Read the file again at the next request, for the server refused what it held."""
        self._read_at_s = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where an API server is, and how we and it prove each other.

    Attributes:
        server: `https://host:port`, possibly with a path, without a slash at the end.
        tls: Roots and client certificate.
        token: Bearer token; None where the certificate is enough.
        server_name: Name in the server's certificate where it differs from the host.
    """

    server: str
    tls: TlsFiles = field(repr=False)
    token: BearerToken | None = field(default=None, repr=False)
    server_name: str | None = None

    def current(self) -> "Connection":
        """Return itself: what was given as it is does not change."""
        return self


class ConnectionSource(Protocol):
    """Says where an API server is now: a `Connection`, or a file that may change."""

    def current(self) -> Connection:
        """Return the connection for a request that is sent now.

        Raises:
            BackendUnavailable: It is not known.
        """
        ...


async def read_at_most(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """Read a response's body without trusting its length.

    Raises:
        BackendUnavailable: It is longer than the limit, or compressed although
            nobody asked for that.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BackendUnavailable("a compressed answer that nobody asked for")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit_bytes:
            raise BackendUnavailable(f"an answer longer than {limit_bytes} bytes")
    return bytes(body)


def file_version(path: Path) -> tuple[int, int, int]:
    """Return what differs once a file is another one or was written to.

    Raises:
        OSError: It is not there.
    """
    # Follows links, so a swap of Kubernetes' `..data` shows as another inode.
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BackendUnavailable(f"token file {path}: {type(error).__name__}") from None
    if not _VISIBLE.fullmatch(token):
        raise BackendUnavailable(f"token file {path}: no token in it")
    return token


def _no_password() -> str:
    msg = "the private key is encrypted"
    raise ValueError(msg)


@contextlib.contextmanager
def _as_file(pem: Pem) -> Iterator[Path]:
    """Lend a file with some PEM, for OpenSSL reads client certificates from files only."""
    if not isinstance(pem, bytes):
        yield pem
        return
    descriptor, name = tempfile.mkstemp(prefix="meshsigner-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        yield Path(name)
    finally:
        Path(name).unlink()
