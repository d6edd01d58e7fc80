"""An SDS server on a Unix socket and a client that speaks bytes, for the wire tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from meshsigner.agent.sds_service import SERVICE, SdsService
from meshsigner.agent.secrets import SecretStore
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.spiffe import SpiffeId
from tests.wire.protobuf_bytes import decode, encode, text

IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
SILENCE_S = 0.15  # long enough for an answer that must not come
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A response of either form.

    Attributes:
        version: Of the response.
        nonce: Of the response.
        type_url: Of its resources.
        secrets: Each secret's fields by its name.
        versions: Each resource's own version by its name (delta alone).
        raw: All fields.
    """

    version: str
    nonce: str
    type_url: str
    secrets: Mapping[str, Mapping[int, list[int | bytes]]]
    versions: Mapping[str, str]
    raw: Mapping[int, list[int | bytes]]


def _secret(any_bytes: bytes) -> tuple[str, Mapping[int, list[int | bytes]]]:
    packed = decode(any_bytes)
    assert text(packed, 1) == SECRET_TYPE
    (value,) = packed[2]
    assert isinstance(value, bytes)
    fields = decode(value)
    return text(fields, 1), fields


def read_sotw(data: bytes) -> Told:
    """Read a DiscoveryResponse: 1 version, 2 resources, 4 type, 5 nonce."""
    raw = decode(data)
    resources = [value for value in raw.get(2, []) if isinstance(value, bytes)]
    return Told(
        version=text(raw, 1),
        nonce=text(raw, 5),
        type_url=text(raw, 4),
        secrets=dict(_secret(resource) for resource in resources),
        versions={},
        raw=raw,
    )


def read_delta(data: bytes) -> Told:
    """Read a DeltaDiscoveryResponse: 2 resources of 1 version, 2 resource, 3 name."""
    raw = decode(data)
    resources = [decode(value) for value in raw.get(2, []) if isinstance(value, bytes)]
    secrets = {}
    for resource in resources:
        (packed,) = resource[2]
        assert isinstance(packed, bytes)
        name, fields = _secret(packed)
        assert name == text(resource, 3)
        secrets[name] = fields
    return Told(
        version=text(raw, 1),
        nonce=text(raw, 5),
        type_url=text(raw, 4),
        secrets=secrets,
        versions={text(resource, 3): text(resource, 1) for resource in resources},
        raw=raw,
    )


def sotw_request(
    *names: str, nonce: str = "", version: str = "", node: str = "", refusal: str | None = None
) -> bytes:
    """Write a DiscoveryRequest: 1 version, 2 node, 3 names, 4 type, 5 nonce, 6 error."""
    fields: dict[int, str | bytes | list[str]] = {1: version, 2: encode({1: node})}
    fields |= {3: list(names), 4: SECRET_TYPE, 5: nonce}
    return encode(fields) + (b"" if refusal is None else encode({6: _status(refusal)}))


def delta_request(
    *,
    subscribe: tuple[str, ...] = (),
    unsubscribe: tuple[str, ...] = (),
    versions: Mapping[str, str] | None = None,
    nonce: str = "",
    node: str = "",
    refusal: str | None = None,
) -> bytes:
    """Write a DeltaDiscoveryRequest: 1 node, 2 type, 3, 4 names, 5 versions, 6 nonce, 7 error."""
    held = [encode({1: name, 2: version}) for name, version in (versions or {}).items()]
    fields: dict[int, str | bytes | list[str] | list[bytes]] = {1: encode({1: node})}
    fields |= {2: SECRET_TYPE, 3: list(subscribe), 4: list(unsubscribe), 5: held, 6: nonce}
    return encode(fields) + (b"" if refusal is None else encode({7: _status(refusal)}))


def _status(text_: str) -> bytes:
    return encode({1: grpc.StatusCode.INTERNAL.value[0], 2: text_})


class Stream:
    """A client's stream; requests and responses are bytes.

    Args:
        call: The call.
        read: Reads a response.
    """

    def __init__(
        self, call: "aio.StreamStreamCall[bytes, bytes]", read: Callable[[bytes], Told]
    ) -> None:
        self._call = call
        self._read = read
        self._pending: asyncio.Task[object] | None = None

    async def send(self, message: bytes) -> None:
        """Send a request."""
        await self._call.write(message)

    async def told(self) -> Told:
        """Wait for a response."""
        data = await asyncio.wait_for(self._next(), PATIENCE_S)
        self._pending = None
        assert isinstance(data, bytes), f"the stream ended: {await self.ended()}"
        return self._read(data)

    async def silent(self) -> None:
        """Check that nothing comes."""
        done, _ = await asyncio.wait([self._next()], timeout=SILENCE_S)
        assert not done, "an answer that must not come"

    async def ended(self) -> tuple[grpc.StatusCode, str]:
        """Wait for the end that the server makes."""
        return await self._call.code(), await self._call.details()

    async def leave(self) -> None:
        """End the stream from this side."""
        await self._call.done_writing()
        await asyncio.wait([self._next()], timeout=PATIENCE_S)

    async def _read_one(self) -> object:
        return await self._call.read()

    def _next(self) -> "asyncio.Task[object]":
        if self._pending is None:
            self._pending = asyncio.create_task(self._read_one())
        return self._pending


class Client:
    """A client of one socket."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel: Any = channel  # the stubs lack streams that are read and written by hand

    def sotw(self) -> Stream:
        """Open a StreamSecrets."""
        return Stream(self._channel.stream_stream(f"/{SERVICE}/StreamSecrets")(), read_sotw)

    def delta(self) -> Stream:
        """Open a DeltaSecrets."""
        return Stream(self._channel.stream_stream(f"/{SERVICE}/DeltaSecrets")(), read_delta)

    async def fetch(self, message: bytes, timeout_s: float | None = None) -> Told:
        """Call FetchSecrets."""
        method = self._channel.unary_unary(f"/{SERVICE}/FetchSecrets")
        return read_sotw(await method(message, timeout=timeout_s))


@asynccontextmanager
async def client_of(path: Path) -> AsyncIterator[Client]:
    """Connect to a socket, on a connection shared with nobody."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.insecure_channel(f"unix:{path}", options=options) as channel:
        yield Client(channel)


class Sds:
    """A server under test.

    Attributes:
        store: What it serves.
        metrics: Its figures.
        service: The service.
        path: Its socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SecretStore(SpiffeId.parse(IDENTITY))
        self.metrics = AgentMetrics(["productpage"])
        self.service = SdsService("productpage", self.store, self.metrics)

    def metric(self, name: str, **labels: str) -> float:
        """Return a sample's value, 0 when there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0


@asynccontextmanager
async def serving_sds(folder: Path) -> AsyncIterator[tuple[Sds, Client]]:
    """Run a server, and a client of it, for the time of a test."""
    sds = Sds(folder / "socket")
    handlers = (grpc.method_handlers_generic_handler(SERVICE, sds.service.handlers()),)
    server = aio.server(handlers=handlers)
    server.add_insecure_port(f"unix:{sds.path}")
    await server.start()
    try:
        async with client_of(sds.path) as client:
            yield sds, client
    finally:
        await server.stop(None)
