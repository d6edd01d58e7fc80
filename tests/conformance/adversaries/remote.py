"""What the adapters of foreign CAs have in common; for tests alone, for neither is fit to sign."""

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.errors import BackendRefused, BackendUnavailable, MeshsignerError
from meshsigner.model import (
    BackendLimits,
    Capabilities,
    Chain,
    Errand,
    Health,
    Issuer,
    Leeway,
    Order,
)
from meshsigner.signing.issuers import issuer_of

START_TIMEOUT_S = 30.0
POLL_S = 0.05
# What these CAs do with validity is allowed here: their other lies are to be seen.
LEEWAY = Leeway(backdate=timedelta(minutes=30), shorten=True)


class RealRemote:
    """A foreign CA, as a remote backend.

    Args:
        name: Of the backend.
        chain: From the CA that signs towards the root.
        roots: Its root.
    """

    def __init__(
        self, name: str, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
    ) -> None:
        self.name = name
        self.limits = BackendLimits(batch=1, in_flight=4, call_s=5.0)
        self.capabilities = Capabilities(builds_x509=True, leeway=LEEWAY)
        self.answered: list[x509.Certificate] = []
        self._issuer = issuer_of(chain, roots, generation=1)

    async def start(self) -> None:
        """Do nothing: the server runs already."""

    async def aclose(self) -> None:
        """Do nothing: who started the server ends it."""

    def issuer(self, now: datetime) -> Issuer:
        """Return the CA."""
        del now
        return self._issuer

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Do nothing: there is one root."""

    def health(self, now: datetime) -> Health:
        """Be ready."""
        del now
        return Health(name=f"backend/{self.name}", ready=True, detail="as always")

    async def sign(
        self, errands: Sequence[Errand], deadline_s: float
    ) -> Sequence[Chain | MeshsignerError]:
        """Have each order signed."""
        async with asyncio.timeout_at(deadline_s):
            return [await self._sign(errand.order) for errand in errands]

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Find nothing."""
        del errand, deadline_s
        return None

    async def _sign(self, order: Order) -> Chain | MeshsignerError:
        try:
            pem = await self.ask(order)
        except aiohttp.ClientError as error:
            raise BackendUnavailable(str(error)) from error
        if pem is None:
            return BackendRefused("the CA said no")
        leaf = x509.load_pem_x509_certificate(pem.encode())
        self.answered.append(leaf)
        return Chain(
            leaf_der=leaf.public_bytes(Encoding.DER),
            issuer=self._issuer,
            serial=leaf.serial_number,
            backend=self.name,
        )

    async def ask(self, order: Order) -> str | None:
        """Have the CA sign a CSR; return the certificate, or None when it says no."""
        raise NotImplementedError


class ServerProcess:
    """A foreign server of a test's own, ended with it.

    Args:
        command: What to start.
        port: On which it will listen, on loopback.
        log: File that gets its output.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._port = port
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        """Start it, and wait until it listens."""
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        async with asyncio.timeout(START_TIMEOUT_S):
            while not _listens(self._port):
                assert self._process.poll() is None, self._log.read_text()
                await asyncio.sleep(POLL_S)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_TIMEOUT_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def http_session(
    connector: aiohttp.BaseConnector | None = None,
) -> AsyncIterator[aiohttp.ClientSession]:
    """Have an HTTP client for the length of a block."""
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
