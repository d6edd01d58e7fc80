"""One line and one set of counts a call, once per turn of the event loop."""

import asyncio
import json

import pytest

from meshsigner.errors import ConfigurationError, Overloaded, Unauthenticated
from meshsigner.model import Chain
from meshsigner.observe.logs import LineWriter, LogFormat, Renderer
from meshsigner.observe.metrics import Metrics
from meshsigner.rpc.calls import Call
from meshsigner.rpc.report import CallReports
from tests.fakes.issuance import FakeIssuance


class _World:
    """Reports with what they told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.metrics = Metrics()
        renderer = Renderer(LogFormat.JSON)
        lines = LineWriter(renderer, write=self._write, lost=self.metrics.lines_lost)
        self.reports = CallReports(self.metrics, lines)

    def _write(self, data: bytes) -> None:
        self.written.append(data)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for data in self.written for line in data.splitlines()]

    def count(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("meshsigner_calls_total", {"reason": reason})


def _call() -> Call:
    call = Call(arrived_s=0, deadline_s=10, peer="ipv4:10.0.0.7:1")
    call.line["auth_method"] = "jwt"
    return call


@pytest.fixture
def chain() -> Chain:
    """An answer."""
    return FakeIssuance().chain


async def test_one_write_a_turn(chain: Chain) -> None:
    """Nothing is written before the turn's end; then all lines leave in one write."""
    world = _World()
    for _ in range(20):
        world.reports.put(_call(), chain)
    assert world.written == []
    await asyncio.sleep(0)
    assert len(world.written) == 1
    assert len(world.lines()) == 20
    assert world.count("ok") == 20


async def test_ends_of_every_kind(chain: Chain) -> None:
    """Answers, refusals, bugs and callers who left are told apart in one turn."""
    world = _World()
    ends: list[Chain | BaseException] = [
        chain,
        Unauthenticated("expired"),
        ValueError("bug"),
        asyncio.CancelledError(),
        ConfigurationError("never in a call"),
    ]
    for end in ends:
        world.reports.put(_call(), end)
    await asyncio.sleep(0)
    told = [(line["level"], line["code"], line["reason"]) for line in world.lines()]
    assert told == [
        ("info", "OK", "ok"),
        ("warning", "UNAUTHENTICATED", "unauthenticated"),
        ("error", "INTERNAL", "internal"),
        ("info", "CANCELLED", "cancelled"),
        ("error", "INTERNAL", "internal"),
    ]
    assert ["exception" in line for line in world.lines()] == [False, False, True, False, True]
    counts = {"ok": 1, "unauthenticated": 1, "internal": 2, "cancelled": 1}
    assert {reason: world.count(reason) for reason in counts} == counts


async def test_the_whole_cause_is_told() -> None:
    """The line names the kind of error, its text and what it came from."""
    world = _World()
    error = Overloaded("queue_total")
    error.__cause__ = TimeoutError("backend")
    world.reports.put(_call(), error)
    world.reports.put(_call(), Unauthenticated())
    await asyncio.sleep(0)
    assert [line["cause"] for line in world.lines()] == [
        "Overloaded: bound met: queue_total; TimeoutError: backend",
        "Unauthenticated",
    ]


async def test_a_log_that_cannot_be_written(chain: Chain) -> None:
    """A full disk under the log costs lines, which are counted; calls are counted as ever."""
    world = _World()

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    lines = LineWriter(Renderer(LogFormat.JSON), write=full, lost=world.metrics.lines_lost)
    reports = CallReports(world.metrics, lines)
    reports.put(_call(), chain)
    reports.put(_call(), chain)
    await asyncio.sleep(0)
    lost = world.metrics.registry.get_sample_value("meshsigner_log_lines_lost_total")
    assert (lost, world.count("ok")) == (2, 2)
