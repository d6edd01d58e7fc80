"""New connections wait outside while those inside wait too long; the others are served."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from meshsigner.observe.metrics import Metrics
from meshsigner.rpc.door import Door, DoorLimits


@dataclass(slots=True)
class Wait:
    """How long a newcomer would wait, as the test says."""

    seconds: float = 0.0


@dataclass(slots=True)
class Inside:
    """A listening socket behind a door, and what the test can turn."""

    listener: socket.socket
    door: Door
    wait: Wait
    metrics: Metrics
    open_ends: list[socket.socket] = field(default_factory=list)

    async def connect(self, within_s: float) -> socket.socket:
        """Open a connection, or time out."""
        one = socket.socket()
        one.setblocking(False)  # noqa: FBT003 - the standard library's own form
        self.open_ends.append(one)
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_connect(one, self.listener.getsockname())
        return one

    def closed_seconds(self) -> float:
        """Return what the metric says."""
        name = "meshsigner_door_closed_seconds_total"
        value = self.metrics.registry.get_sample_value(name)
        assert value is not None
        return value


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    """Listen behind a door that looks at the test's wait."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        wait, metrics = Wait(), Metrics()
        door = Door(
            [listener.dup()],
            wait_s=lambda: wait.seconds,
            metrics=metrics,
            limits=DoorLimits(closes_s=0.5, opens_s=0.25, longest_s=0.9, least_open_s=0.3),
        )
        made = Inside(listener=listener, door=door, wait=wait, metrics=metrics)
        yield made
        await door.aclose()
        for one in made.open_ends:
            one.close()


async def test_a_long_wait_keeps_new_connections_outside(inside: Inside) -> None:
    """Nobody new gets in while the wait is long, and nobody is refused."""
    inside.wait.seconds = 0.6
    await asyncio.sleep(0.1)
    with pytest.raises(TimeoutError):
        await inside.connect(within_s=0.5)
    inside.wait.seconds = 0.0
    await asyncio.sleep(0.1)
    assert inside.closed_seconds() > 0.4


async def test_newcomers_do_not_starve(inside: Inside) -> None:
    """A wait that stays long, for those inside keep the server busy, still lets some in."""
    inside.wait.seconds = 0.6
    await asyncio.sleep(0.1)
    await inside.connect(within_s=8.0)  # the kernel asks again after 1, 3 and 7 s
    assert inside.wait.seconds == 0.6


async def test_connections_that_stand_go_on(inside: Inside) -> None:
    """Whoever is inside is answered, also on a connection that was made behind a closed door."""
    client = await inside.connect(within_s=1.0)
    inside.wait.seconds = 0.6
    await asyncio.sleep(0.1)
    served, _ = inside.listener.accept()
    with served:
        served.sendall(b"answer")
        async with asyncio.timeout(1.0):
            assert await asyncio.get_running_loop().sock_recv(client, 6) == b"answer"


async def test_who_waits_outside_gets_in_by_itself(inside: Inside) -> None:
    """The client's kernel asks again: once the wait is short, the same attempt succeeds."""
    inside.wait.seconds = 0.6
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(inside.connect(within_s=3.0))
    await asyncio.sleep(0.2)
    inside.wait.seconds = 0.2
    started = time.perf_counter()
    await waiting
    assert time.perf_counter() - started < 2.0  # the kernel asks again after 1 s


async def test_between_the_two_waits_nothing_changes(inside: Inside) -> None:
    """A door that is open stays open, a closed one closed, until the wait has turned."""
    inside.wait.seconds = 0.4
    await asyncio.sleep(0.1)
    await inside.connect(within_s=0.5)
    inside.wait.seconds = 0.6
    await asyncio.sleep(0.1)
    inside.wait.seconds = 0.4
    with pytest.raises(TimeoutError):
        await inside.connect(within_s=0.5)


async def test_who_ends_leaves_the_door_open(inside: Inside) -> None:
    """A closed door does not outlive its server's watch."""
    inside.wait.seconds = 0.6
    await asyncio.sleep(0.1)
    await inside.door.aclose()
    await inside.connect(within_s=0.5)
