"""How a server ends: nobody is left without an answer, nobody is cut who could have been served."""

import asyncio
import time

import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests.wire.harness import Refused, Wire, until


async def test_calls_in_flight_end_well(wire: Wire) -> None:
    """A call that ends within the grace is answered; the server stops as soon as it has."""
    wire.issuance.gate.clear()
    async with wire.channel() as channel:
        call = asyncio.create_task(wire.call(channel))
        await until(lambda: wire.issuance.waiting == 1)
        started = time.monotonic()
        draining = asyncio.create_task(wire.server.drain(grace_s=10))
        await asyncio.sleep(0.2)
        assert not draining.done()
        wire.issuance.gate.set()
        assert isinstance(await call, list)
        await draining
    assert time.monotonic() - started < 3


async def test_calls_past_the_grace(wire: Wire) -> None:
    """A call that does not end within the grace is told UNAVAILABLE, not cut off."""
    wire.issuance.gate.clear()
    async with wire.channel() as channel:
        call = asyncio.create_task(wire.call(channel))
        await until(lambda: wire.issuance.waiting == 1)
        await wire.server.drain(grace_s=0.3)
        assert await call == Refused(code=StatusCode.UNAVAILABLE, text="the server is not ready")
    assert [line["reason"] for line in wire.calls] == ["not_ready"]


async def test_new_connections_are_refused(wire: Wire) -> None:
    """While it drains, and after, nobody new gets in."""
    port = wire.port
    wire.issuance.gate.clear()
    async with wire.channel() as channel, wire.channel() as late:
        call = asyncio.create_task(wire.call(channel))
        await until(lambda: wire.issuance.waiting == 1)
        draining = asyncio.create_task(wire.server.drain(grace_s=5))
        await asyncio.sleep(0.1)
        refused = await wire.call(late, timeout_s=2)
        assert isinstance(refused, Refused)
        assert refused.code is StatusCode.UNAVAILABLE
        wire.issuance.gate.set()
        await asyncio.gather(call, draining)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_notice_before_the_port_closes(wire: Wire) -> None:
    """During the notice health says NOT_SERVING and calls are still answered."""
    async with wire.channel() as channel:
        draining = asyncio.create_task(wire.server.drain(grace_s=1, notice_s=0.5))
        await asyncio.sleep(0.1)
        method = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        answer = await method(HealthCheckRequest().SerializeToString())
        assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.NOT_SERVING
        assert not wire.readiness.ready
        assert isinstance(await wire.call(channel), list)
        await draining


async def test_lines_of_the_last_calls(wire: Wire) -> None:
    """Every call has its line when the server has stopped."""
    async with wire.channel() as channel:
        await asyncio.gather(*(wire.call(channel) for _ in range(20)))
    await wire.server.drain(grace_s=1)
    assert len(wire.calls) == 20
    assert wire.metric("meshsigner_calls_total", reason="ok") == 20
