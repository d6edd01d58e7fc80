"""Whether a channel dials when it must, and no more often than gRPC's."""

import asyncio
from typing import cast

from benchmarks.load.calls import Answer
from benchmarks.load.channel import Channel, Dialer, FreshConnections, loopback_sources
from benchmarks.load.client import Connection
from tests.unit.benchmarks.asked import OK, UNAVAILABLE, ScriptedLine, make_calls, seeded


class Line(ScriptedLine):
    """A connection that may be lost."""

    lost = False


class Dials:
    """Gives out lines in turn; None is a dial that fails."""

    def __init__(self, *lines: Line | None) -> None:
        self.lines = list(lines)
        self.dialled = 0

    async def dial(self) -> Connection:
        """Return the next line."""
        line = self.lines[self.dialled]
        self.dialled += 1
        if line is None:
            raise ConnectionRefusedError
        return cast("Connection", line)


def channel(dials: Dials) -> Channel:
    """Return a channel over these dials."""
    return Channel(cast("Dialer", dials), seeded(1))


async def ask(sender: Channel | FreshConnections) -> Answer:
    """Send a call and return its answer."""
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    sender.send(make_calls(1)[0], answered.set_result)
    return await answered


async def test_one_connection_serves_many_calls() -> None:
    """The first call dials, later ones use the same connection."""
    dials = Dials(Line())
    line = channel(dials)
    assert [(await ask(line)).status for _ in range(3)] == [OK] * 3
    assert dials.dialled == 1


async def test_lost_connection_is_dialled_again() -> None:
    """A call after the connection is gone opens another one."""
    first = Line()
    dials = Dials(first, Line())
    line = channel(dials)
    await ask(line)
    first.lost = True
    assert (await ask(line)).status == OK
    assert dials.dialled == 2


async def test_failed_dial_makes_calls_fail_for_a_while() -> None:
    """After a dial that failed, calls are UNAVAILABLE at once and nobody dials meanwhile."""
    dials = Dials(None, Line())
    line = channel(dials)
    answers = [await ask(line) for _ in range(3)]
    assert [got.status for got in answers] == [UNAVAILABLE] * 3
    assert answers[0].message == "dial: ConnectionRefusedError"
    assert dials.dialled == 1


async def test_every_call_has_a_connection_of_its_own() -> None:
    """Churn dials for each call and hangs up after its answer; a failed dial is an answer."""
    lines = [Line(), Line()]
    sender = FreshConnections(cast("Dialer", Dials(*lines, None)))
    assert [(await ask(sender)).status for _ in range(3)] == [OK, OK, UNAVAILABLE]
    assert [line.closed for line in lines] == [True, True]


def test_processes_dial_from_addresses_of_their_own() -> None:
    """No two processes share a loopback address, so that each has all of its ports."""
    seen = [{next(sources) for _ in range(300)} for sources in map(loopback_sources, range(300))]
    assert all(len(addresses) == 200 for addresses in seen)
    assert len(set().union(*seen)) == 300 * 200
