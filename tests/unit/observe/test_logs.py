"""How lines look, and how they are written."""

import asyncio
import json
import logging
import os
import select
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshsigner.observe.logs import (
    LineWriter,
    LogFormat,
    Renderer,
    configure,
    get_logger,
    write_stderr,
)


class _Sink:
    """Where lines go."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def __call__(self, data: bytes) -> None:
        self.writes.append(data)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for data in self.writes for line in data.splitlines()]


@pytest.fixture
def sink() -> _Sink:
    """Where lines go."""
    return _Sink()


def test_a_line_as_json(sink: _Sink) -> None:
    """A line has time, level and event, and its fields as they are."""
    configure(write=sink)
    get_logger().warning("not ready", part="issuer", count=3)
    (line,) = sink.lines()
    assert (line["event"], line["level"], line["part"], line["count"]) == (
        *("not ready", "warning", "issuer"),
        3,
    )
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


def test_a_line_for_people(sink: _Sink) -> None:
    """On a terminal a line is one line of words."""
    configure(LogFormat.CONSOLE, write=sink)
    get_logger().info("serving", port=15012)
    (data,) = sink.writes
    assert data.count(b"\n") == 1
    assert b"serving" in data
    assert b"port=15012" in data


def test_values_that_json_does_not_know(sink: _Sink) -> None:
    """Times, durations, bytes and anything else become text that can be read."""
    configure(write=sink)
    get_logger().info(
        "x",
        at=datetime(2026, 11, 24, tzinfo=UTC),
        took=timedelta(seconds=1.5),
        digest=b"\x00\xff",
        other={1},
    )
    (line,) = sink.lines()
    assert line["at"] == "2026-11-24T00:00:00+00:00"
    assert (line["took"], line["digest"], line["other"]) == (1.5, "00ff", "{1}")


def test_a_line_is_one_line(sink: _Sink) -> None:
    """No text of a stranger can begin a line of its own."""
    configure(write=sink)
    get_logger().info("x", cause='a\nb\r\n{"event":"forged"}\u2028\x1b[31m')
    assert sink.writes[0].count(b"\n") == 1
    assert sink.writes[0].isascii()
    assert b"\x1b" not in sink.writes[0]


def test_levels_below_are_not_written(sink: _Sink) -> None:
    """At warning, info is silent."""
    configure(level=logging.WARNING, write=sink)
    get_logger().info("x")
    get_logger().error("y")
    assert [line["event"] for line in sink.lines()] == ["y"]


def test_exceptions_of_libraries_too(sink: _Sink) -> None:
    """What a library logs comes in our form, with its traceback and without tokens in it."""
    configure(write=sink)
    try:
        int("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", "request")
    logging.getLogger("asyncio").info("not this")
    (line,) = sink.lines()
    assert (line["event"], line["level"]) == ("Error handling request", "error")
    assert line["logger"] == "aiohttp.server"
    assert "Traceback" in line["exception"]
    assert "eyJ" not in line["exception"]


async def test_lines_of_a_turn_leave_in_one_write(sink: _Sink) -> None:
    """Nothing is written at once; the turn's end writes all, in order, with one time."""
    writer = LineWriter(Renderer(LogFormat.JSON), write=sink, lost=_never)
    for number in range(5):
        writer.put("info", {"event": "x", "number": number})
    assert sink.writes == []
    await asyncio.sleep(0)
    assert len(sink.writes) == 1
    assert [line["number"] for line in sink.lines()] == [0, 1, 2, 3, 4]
    assert len({line["timestamp"] for line in sink.lines()}) == 1
    writer.put("info", {"event": "x"})
    writer.flush()
    await asyncio.sleep(0)
    assert len(sink.writes) == 2


def test_calls_lines_under_the_level_are_left_out(sink: _Sink) -> None:
    """The level holds for the calls' lines as for all others, also after it was changed."""
    writer = LineWriter(Renderer(LogFormat.JSON, logging.WARNING), write=sink, lost=_never)
    writer.write([("info", {"event": "x"}), ("warning", {"event": "y"})])
    writer.write([("info", {"event": "x"})])
    writer.renderer = Renderer(LogFormat.JSON, logging.INFO)
    writer.write([("info", {"event": "z"})])
    assert [line["event"] for line in sink.lines()] == ["y", "z"]


def _never(count: int) -> None:
    msg = f"{count} lines lost"
    raise AssertionError(msg)


def test_lines_that_cannot_be_written() -> None:
    """They are counted, and nobody else is troubled."""
    lost: list[int] = []

    def closed(_: bytes) -> None:
        raise BrokenPipeError

    writer = LineWriter(Renderer(LogFormat.JSON), write=closed, lost=lost.append)
    writer.write([("info", {"event": "x"}), ("info", {"event": "y"})])
    assert lost == [2]


def test_standard_error_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes a part of the bytes is given the rest."""
    taken: list[bytes] = []

    def write(descriptor: int, data: memoryview) -> int:
        assert descriptor == 2
        taken.append(bytes(data[:3]))
        return len(taken[-1])

    monkeypatch.setattr(os, "write", write)
    write_stderr(b"12345678")
    assert taken == [b"123", b"456", b"78"]


def test_pieces_fit_into_a_pipe_and_end_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece is longer than a pipe keeps together, unless one line is: workers share it."""
    pieces: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        pieces.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    lines = b"".join(b"%d:" % number + b"x" * number + b"\n" for number in range(0, 900, 7))
    long = b"y" * 3 * select.PIPE_BUF + b"\n"
    write_stderr(lines + long + lines)
    assert b"".join(pieces) == lines + long + lines
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > select.PIPE_BUF] == [len(long)]
    assert len(pieces) < 40


async def test_fields_of_every_line(sink: _Sink) -> None:
    """What a process always says stands in its own lines, in calls' lines and in libraries'."""
    renderer = configure(write=sink, always={"worker": 3})
    get_logger().info("serving")
    LineWriter(renderer, write=sink, lost=_never).write([("info", {"event": "x"})])
    logging.getLogger("aiohttp").warning("y")
    assert [line["worker"] for line in sink.lines()] == [3, 3, 3]
