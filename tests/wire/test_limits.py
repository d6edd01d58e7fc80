"""Every bound of the wire, met from outside."""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from h2.events import RemoteSettingsChanged, StreamReset
from h2.settings import SettingCodes

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.rpc.certificate_service import METHOD
from meshsigner.rpc.limits import Limits
from tests.secret_scan import Secrets
from tests.wire.harness import NAME, Refused, Wire, serving, until
from tests.wire.raw_http2 import raw_http2

KIB = 1024
MESSAGE = IstioCertificateRequest(csr="csr").SerializeToString()
Serve = Callable[[Limits], Awaitable[Wire]]


@pytest.fixture
async def serve(tmp_path: Path, no_secrets: Secrets) -> AsyncIterator[Serve]:
    """Starts a server with limits of one's own."""
    async with AsyncExitStack() as servers:

        async def start(limits: Limits) -> Wire:
            return await servers.enter_async_context(serving(tmp_path, no_secrets, limits))

        yield start


@pytest.mark.parametrize(
    ("csr", "fits"),
    [
        ("a" * 16 * KIB, True),
        ("a" * (16 * KIB + 1), False),
        ("ä" * 8 * KIB, True),
        ("ä" * (8 * KIB + 1), False),
    ],
    ids=["16 KiB", "one more", "16 KiB of two-byte letters", "two more"],
)
async def test_csr_of_16_kib(wire: Wire, channel: aio.Channel, csr: str, *, fits: bool) -> None:
    """A CSR may have 16 KiB, counted in bytes; above, INVALID_ARGUMENT from the handler."""
    answer = await wire.call(channel, IstioCertificateRequest(csr=csr))
    assert len(wire.issuance.asks) == fits
    if not fits:
        text = "CSR signing error (certificate signing request is larger than 16 KiB)"
        assert answer == Refused(code=StatusCode.INVALID_ARGUMENT, text=text)


@pytest.mark.parametrize("size", [64 * KIB, 1024 * KIB])
async def test_message_of_64_kib(wire: Wire, channel: aio.Channel, size: int) -> None:
    """Behind the handler's bound the transport refuses messages, and the server goes on."""
    refused = await wire.call(channel, IstioCertificateRequest(csr="a" * size))
    assert isinstance(refused, Refused)
    assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    assert wire.issuance.asks == []
    assert isinstance(await wire.call(channel), list)


async def test_headers_of_32_kib(wire: Wire, channel: aio.Channel) -> None:
    """Headers above the hard limit are refused before any handler, below the soft one never."""
    for _ in range(10):
        assert isinstance(await wire.call(channel, headers=[("x", "a" * 15 * KIB)]), list)
    refused = await wire.call(channel, headers=[("x", "a" * 33 * KIB)])
    assert isinstance(refused, Refused)
    assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    assert len(wire.issuance.asks) == 10
    assert isinstance(await wire.call(channel), list)


async def test_compressed_message(wire: Wire) -> None:
    """A message that claims to be compressed is not inflated: it is no protobuf."""
    async with raw_http2(wire) as client:
        stream = client.open(extra=[("grpc-encoding", "gzip")])
        client.send(stream, gzip.compress(MESSAGE + bytes(10_000_000)), flag=1)
        status, _ = await client.status(stream)
    assert status in {StatusCode.INVALID_ARGUMENT.value[0], StatusCode.UNIMPLEMENTED.value[0]}
    assert wire.issuance.asks == []


async def test_streams_of_a_connection(serve: Serve) -> None:
    """The server announces how many streams it takes and resets the ones above."""
    wire = await serve(Limits(max_streams=3))
    wire.issuance.gate.clear()
    async with raw_http2(wire) as client:
        await client.wait_for(RemoteSettingsChanged)
        assert client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == 3
        client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 10
        client.h2.remote_settings.acknowledge()
        streams = [client.open() for _ in range(4)]
        for stream in streams[:3]:
            client.send(stream, MESSAGE)
        await client.wait_for(StreamReset)
        assert [reset.stream_id for reset in client.seen(StreamReset)] == [streams[3]]
        await until(lambda: wire.issuance.waiting == 3)


async def test_calls_in_flight(serve: Serve) -> None:
    """Above the process's bound calls are told RESOURCE_EXHAUSTED at once; a free place is used."""
    wire = await serve(Limits(max_calls=2))
    wire.issuance.gate.clear()
    async with wire.channel() as first, wire.channel() as second:
        waiting = [asyncio.create_task(wire.call(first)) for _ in range(2)]
        await until(lambda: wire.issuance.waiting == 2)
        text = "the server is overloaded, try again"
        assert await wire.call(second) == Refused(code=StatusCode.RESOURCE_EXHAUSTED, text=text)
        assert wire.metric("meshsigner_shed_total", what="calls_in_flight") == 1
        wire.issuance.gate.set()
        assert all(isinstance(answer, list) for answer in await asyncio.gather(*waiting))
        assert isinstance(await wire.call(second), list)


async def test_calls_of_a_connection(serve: Serve) -> None:
    """One connection's bound does not touch another's."""
    wire = await serve(Limits(max_calls_per_connection=2))
    wire.issuance.gate.clear()
    async with wire.channel() as greedy, wire.channel() as modest:
        waiting = [asyncio.create_task(wire.call(greedy)) for _ in range(2)]
        await until(lambda: wire.issuance.waiting == 2)
        refused = await wire.call(greedy)
        assert isinstance(refused, Refused)
        assert refused.code is StatusCode.RESOURCE_EXHAUSTED
        assert wire.metric("meshsigner_shed_total", what="calls_per_connection") == 1
        waiting.append(asyncio.create_task(wire.call(modest)))
        await until(lambda: wire.issuance.waiting == 3)
        wire.issuance.gate.set()
        assert all(isinstance(answer, list) for answer in await asyncio.gather(*waiting))


async def test_calls_that_are_reset_at_once(wire: Wire) -> None:
    """A client that opens and resets calls without pause leaves nothing in flight."""
    wire.issuance.gate.clear()
    async with raw_http2(wire) as client:
        for _ in range(200):
            stream = client.open()
            client.send(stream, MESSAGE)
            client.reset(stream)
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        await until(lambda: wire.issuance.waiting == 0 and len(wire.server.calls) == 0)
    wire.issuance.gate.set()
    async with wire.channel() as channel:
        assert isinstance(await wire.call(channel), list)


async def test_connections(serve: Serve) -> None:
    """Above the bound a connection is closed at once; one that ends makes room."""
    wire = await serve(Limits(max_connections=3))
    async with AsyncExitStack() as stack:
        held = [await asyncio.open_connection("127.0.0.1", wire.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        async with asyncio.timeout(2):
            assert await _ended(reader)
        writer.close()
        for _, waiting in held:
            waiting.close()
        # The server learns of the ends when it gets to them.
        async with asyncio.timeout(10):
            while True:
                channel = await stack.enter_async_context(wire.channel())
                if isinstance(await wire.call(channel), list):
                    break
                await asyncio.sleep(0.05)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def test_handshake_time(serve: Serve) -> None:
    """Who says nothing, or nothing after TLS, is closed when the time for it is over."""
    assert Limits().handshake_s == 10
    wire = await serve(Limits(handshake_s=0.5))
    silent = await asyncio.open_connection("127.0.0.1", wire.port)
    halfway = await asyncio.open_connection(
        "127.0.0.1", wire.port, ssl=wire.tls(), server_hostname=NAME
    )
    started = time.monotonic()
    for reader, writer in (silent, halfway):
        async with asyncio.timeout(3):
            while not reader.at_eof() and not await _ended(reader):
                pass  # the server's own settings come first
        writer.close()
    assert time.monotonic() - started < 2


async def test_statement_17_handling_time(serve: Serve) -> None:
    """A call that nobody answers ends UNAVAILABLE when the server's own time is over."""
    assert Limits().handling_s == 10
    wire = await serve(Limits(handling_s=0.3))
    wire.issuance.gate.clear()
    async with wire.channel() as channel:
        started = time.monotonic()
        refused = await wire.call(channel, timeout_s=None)
    assert refused == Refused(code=StatusCode.UNAVAILABLE, text="the request took too long")
    assert 0.3 <= time.monotonic() - started < 1.5
    (line,) = await wire.call_lines(1)
    assert line["reason"] == "deadline_passed"
    assert wire.issuance.cancelled == 1


@pytest.mark.parametrize("method", [METHOD, "/grpc.health.v1.Health/Check"])
async def test_statement_17_a_message_that_never_comes(serve: Serve, method: str) -> None:
    """A client that sends headers and no message is told so when its time is over."""
    wire = await serve(Limits(handling_s=0.3))
    async with raw_http2(wire) as client:
        status, text = await client.status(client.open(method))
    assert (status, text) == (StatusCode.UNAVAILABLE.value[0], "the request took too long")
    assert len(wire.server.calls) == 0


async def test_the_clients_own_deadline_is_told(wire: Wire, channel: aio.Channel) -> None:
    """The pipeline learns of a shorter deadline, and of ten seconds without one."""
    loop = asyncio.get_running_loop()
    await wire.call(channel, timeout_s=3)
    await wire.call(channel, timeout_s=60)
    await wire.call(channel, timeout_s=None)
    left = [call.deadline_s - loop.time() for call in wire.issuance.calls]
    assert left == pytest.approx([3, 10, 10], abs=0.5)


async def test_calls_while_the_process_is_too_busy(serve: Serve) -> None:
    """What gRPC itself may hold for a busy process is bounded: the rest is turned away."""
    wire = await serve(Limits(max_pending_calls=5, max_streams=500))
    async with raw_http2(wire) as client:
        await client.wait_for(RemoteSettingsChanged)
        for _ in range(200):
            client.send(client.open(), MESSAGE)
        time.sleep(0.5)  # noqa: ASYNC251 - a busy process is what is tried
        await asyncio.sleep(0.5)
        statuses = [client._status(stream) for stream in range(1, 401, 2)]
        resets = len(client.seen(StreamReset))
    refused = sum(1 for status in statuses if status and status[0] != 0) + resets
    assert 200 - 2 * 3 * 5 <= refused < 200
    assert len(wire.issuance.asks) + refused == 200


async def test_idle_connection(serve: Serve) -> None:
    """A connection without calls is told to go."""
    wire = await serve(Limits(connection_idle_s=1))
    async with raw_http2(wire) as client:
        stream = client.open()
        client.send(stream, MESSAGE)
        assert (await client.status(stream))[0] == 0
        assert not client.closed
        await client.wait_closed(timeout_s=4)


async def test_old_connection(serve: Serve) -> None:
    """A connection past its age is closed: the call on it ends well, the next takes a new one."""
    wire = await serve(Limits(connection_age_s=1, connection_age_grace_s=5))
    wire.issuance.gate.clear()
    async with wire.channel() as channel:
        call = asyncio.create_task(wire.call(channel))
        await asyncio.sleep(1.5)  # gRPC varies the age by a tenth
        wire.issuance.gate.set()
        assert isinstance(await call, list)
        assert isinstance(await wire.call(channel), list)
    old, new = (ask.credentials.peer for ask in wire.issuance.asks)
    assert old != new


async def test_plaintext_is_refused(wire: Wire) -> None:
    """HTTP/2 without TLS, and HTTP/1, are hung up on."""
    for greeting in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(greeting)
        async with asyncio.timeout(3):
            data = await reader.read()
        assert b"HTTP" not in data
        writer.close()
    assert wire.issuance.asks == []


async def test_tls_below_1_2_is_refused(wire: Wire) -> None:
    """TLS 1.1 does not get through the handshake."""
    context = wire.tls(ssl.TLSVersion.TLSv1_2)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", wire.port, ssl=context, server_hostname=NAME)
