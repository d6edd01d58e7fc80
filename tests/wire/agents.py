"""Agents that ask for certificates as Istio's does, while a test does something to the server.

Each agent asks again and again, retries what istio-agent retries, as often and
with its waits, and takes a new connection each time or keeps one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from grpc import aio

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)
from meshsigner.agent.keys import KeyType, build_csr, make_key
from meshsigner.rpc.certificate_service import METHOD

IDENTITY = "spiffe://cluster.local/ns/shop/sa/cart"
_RETRIED = {
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
}
_WAITS_S = (0.1, 0.2, 0.4, 0.8)
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the agents met.

    Attributes:
        leaves: Certificates they got.
        codes: Every status, refused attempts included.
        lost: How calls ended for which all attempts were in vain.
    """

    leaves: list[x509.Certificate] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    @property
    def serials(self) -> set[str]:
        """Serial numbers as the inventory writes them."""
        return {f"{leaf.serial_number:x}" for leaf in self.leaves}

    async def grown_by(self, number: int) -> None:
        """Wait until so many more certificates have come."""
        wanted = len(self.leaves) + number
        async with asyncio.timeout(20):
            while len(self.leaves) < wanted:
                await asyncio.sleep(0.02)


class _Agent:
    def __init__(self, address: str, folder: Path, tally: Tally, *, keeps_connection: bool) -> None:
        self._address = address
        self._roots = (folder / ".state" / "root-cert.pem").read_bytes()
        self._token = (folder / "token").read_text().strip()
        self._csr = build_csr(make_key(KeyType.P256), IDENTITY).decode()
        self._tally = tally
        self._keeps_connection = keeps_connection

    def _channel(self) -> aio.Channel:
        return aio.secure_channel(
            self._address,
            grpc.ssl_channel_credentials(self._roots),
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)],
        )

    async def run(self, end: asyncio.Event) -> None:
        channel = self._channel()
        while not end.is_set():
            await self._obtain(channel)
            if not self._keeps_connection:
                await channel.close(None)
                channel = self._channel()
            await asyncio.sleep(_PAUSE_S)
        await channel.close(None)

    async def _obtain(self, channel: aio.Channel) -> None:
        told = ""
        for wait_s in (*_WAITS_S, 0.0):
            try:
                self._tally.leaves.append(await self._call(channel))
            except aio.AioRpcError as error:
                told = f"{error.code().name}: {error.details()}"
                self._tally.codes[error.code().name] += 1
                if error.code() not in _RETRIED:
                    break
                await asyncio.sleep(wait_s)
            else:
                self._tally.codes["OK"] += 1
                return
        self._tally.lost.append(told)

    async def _call(self, channel: aio.Channel) -> x509.Certificate:
        method = channel.unary_unary(METHOD, None, IstioCertificateResponse.FromString)
        request = IstioCertificateRequest(csr=self._csr, validity_duration=3600)
        metadata = (("authorization", f"Bearer {self._token}"), ("clusterid", "Kubernetes"))
        answer = await method(request.SerializeToString(), metadata=metadata, timeout=15)
        return x509.load_pem_x509_certificate(answer.cert_chain[0].encode())


@asynccontextmanager
async def agents(
    address: str, folder: Path, *, fresh: int = 0, warm: int = 0
) -> AsyncIterator[Tally]:
    """Have agents ask for the length of a block.

    Args:
        address: Of the server.
        folder: With its roots and a token.
        fresh: Agents that take a new connection for each certificate.
        warm: Agents that keep theirs.
    """
    tally, end = Tally(), asyncio.Event()
    kinds = [False] * fresh + [True] * warm
    ones = [_Agent(address, folder, tally, keeps_connection=kind) for kind in kinds]
    running = [asyncio.create_task(one.run(end)) for one in ones]
    try:
        yield tally
    finally:
        end.set()
        await asyncio.gather(*running)
