"""Messages between supervisor and worker."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from meshsigner.model import Health
from meshsigner.observe.families import read_families
from meshsigner.observe.metrics import Metrics
from meshsigner.workers.channel import Channel
from meshsigner.workers.messages import Kind, Report


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Channel, Channel]]:
    """Return both ends of a channel."""
    one, other = socket.socketpair()
    both = await Channel.over(one), await Channel.over(other)
    yield both
    for end in both:
        end.close()
    await asyncio.sleep(0)


async def test_messages_arrive_in_order(ends: tuple[Channel, Channel]) -> None:
    """What is sent arrives as it was, both ways."""
    ours, theirs = ends
    ours.send(Kind.LISTEN)
    ours.send(Kind.END, successors=[0, 2])
    theirs.send(Kind.SERVING)
    first, second = await theirs.receive(), await theirs.receive()
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == (Kind.LISTEN, Kind.END)
    assert second.content == {"successors": [0, 2]}
    answer = await ours.receive()
    assert answer is not None
    assert answer.kind is Kind.SERVING


async def test_report_survives_the_way(ends: tuple[Channel, Channel]) -> None:
    """Health, figures and roots arrive as they were."""
    ours, theirs = ends
    metrics = Metrics()
    metrics.shed("queue_total")
    report = Report(
        parts=(Health(name="issuer", ready=False, detail='ended "yesterday"\n'),),
        families=read_families(metrics.registry),
        roots_pem="-----BEGIN CERTIFICATE-----\n",
    )
    theirs.send(Kind.REPORT, **report.to_content())
    message = await ours.receive()
    assert message is not None
    assert Report.from_content(message.content) == report


async def test_end_of_the_other_side(ends: tuple[Channel, Channel]) -> None:
    """A side that has gone is told by the absence of a message; to send to it is no error."""
    ours, theirs = ends
    theirs.close()
    assert await ours.receive() is None
    ours.send(Kind.ASK)
    await ours.flush()
