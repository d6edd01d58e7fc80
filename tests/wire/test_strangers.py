"""What strangers may do to callers: half-open handshakes, floods of garbage tokens, herds.

The bounds are generous, for these tests share their machine; the benchmarks
measure. What they catch is a caller who starves.
"""

import asyncio
import resource
import secrets as random_secrets
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from grpc import StatusCode, aio

from meshsigner.errors import Unauthenticated
from tests.secret_scan import Secrets
from tests.wire.harness import NAME, Refused, Wire

P99_BOUND_S = 1.0  # of callers, while strangers do their worst
CALLS = 100


async def _p99_s(wire: Wire, channel: aio.Channel) -> float:
    """Make calls one after the other; return the slowest but one."""
    took = []
    for _ in range(CALLS):
        started = time.perf_counter()
        assert isinstance(await wire.call(channel), list)
        took.append(time.perf_counter() - started)
    return sorted(took)[-2]


@pytest.fixture
def many_sockets() -> Iterator[None]:
    """Lets this process hold both ends of 1,000 connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4_096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_sockets")
async def test_half_open_handshakes(wire: Wire) -> None:
    """1,000 connections that say nothing, or half a ClientHello, starve no caller, old or new."""
    hello = _client_hello()
    with ExitStack() as strangers:
        for number in range(1_000):
            stranger = strangers.enter_context(socket.create_connection(("127.0.0.1", wire.port)))
            if number % 2:
                stranger.send(hello[: len(hello) // 2])
        for _ in range(3):
            async with wire.channel() as newcomer:
                assert await _p99_s(wire, newcomer) < P99_BOUND_S


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


async def test_flood_of_garbage_tokens(wire: Wire, no_secrets: Secrets) -> None:
    """Callers with garbage for tokens, as fast as they can, starve no caller and leave no token."""
    garbage = [no_secrets.register(random_secrets.token_urlsafe(200)) for _ in range(20)]
    wire.issuance.refused = {token: Unauthenticated("not a JWT") for token in garbage}
    ended = asyncio.Event()
    flooded = [0]

    async def flood(channel: aio.Channel, token: str) -> None:
        while not ended.is_set():
            refused = await wire.call(channel, headers=[("authorization", f"Bearer {token}")])
            assert isinstance(refused, Refused)
            assert refused.code is StatusCode.UNAUTHENTICATED
            flooded[0] += 1

    async with wire.channel() as caller, wire.channel() as stranger:
        floods = [asyncio.create_task(flood(stranger, token)) for token in garbage]
        assert await _p99_s(wire, caller) < P99_BOUND_S
        ended.set()
        await asyncio.gather(*floods)
    assert flooded[0] > CALLS
    assert wire.metric("meshsigner_calls_total", reason="unauthenticated") == flooded[0]


async def test_statement_52_a_fleet_renews_at_once(wire: Wire) -> None:
    """Two hundred sidecars on connections of their own all get an answer."""

    async def renew() -> list[str] | Refused:
        async with wire.channel() as channel:
            return await wire.call(channel, timeout_s=20)

    answers = await asyncio.gather(*(renew() for _ in range(200)))
    assert all(isinstance(answer, list) for answer in answers)
    assert len({ask.credentials.peer for ask in wire.issuance.asks}) == 200
