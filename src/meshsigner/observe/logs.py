"""One line a fact, as JSON or for a terminal, on standard error.

Decides how a line looks and how it is written; what is worth a line is decided
where it happens. `LineWriter` takes the one line of each call: it renders and
writes all lines of one turn of the event loop with one system call, after the
callers have been answered (docs/adr/0010).
"""

import asyncio
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from meshsigner.observe.redaction import redact

Line = MutableMapping[str, Any]
_NONE: Mapping[str, object] = {}

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogFormat(StrEnum):
    """How lines look."""

    JSON = "json"
    CONSOLE = "console"


def write_stderr(data: bytes) -> None:
    """Write lines to standard error, several with each system call.

    The workers of a server share it. A pipe keeps a write of up to `PIPE_BUF`
    bytes together (pipe(7)), a longer one may be torn by another's: so lines
    leave in pieces of that size, and only a line that is longer itself can be torn.

    Args:
        data: Whole lines.

    Raises:
        OSError: Standard error is closed or full.
    """
    start = 0
    while start < len(data):
        end = start + select.PIPE_BUF
        if end < len(data):
            end = data.rfind(b"\n", start, end) + 1 or data.find(b"\n", end) + 1 or len(data)
        start += os.write(2, data[start:end])


def plain(value: object) -> object:
    """Turn what JSON does not know into text: times, durations (seconds), bytes (hex)."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case _:
            return str(value)


_ENCODER = json.JSONEncoder(default=plain, separators=(",", ":"), ensure_ascii=True)


def _render_json(_logger: object, _method: str, line: Line) -> str:
    """Write a line in ASCII: what a stranger sent must not direct a terminal.

    orjson takes a twentieth of the time, but neither lone surrogates nor huge
    numbers, and escapes less.
    """
    try:
        text = orjson.dumps(line, default=plain, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except orjson.JSONEncodeError:
        return _ENCODER.encode(line)
    return text.decode() if text.isascii() else _ENCODER.encode(line)


def _stamp(_logger: object, _method: str, line: Line) -> Line:
    line["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    return line


def _adder(always: Mapping[str, object]) -> Processor:
    def add(_logger: object, _method: str, line: Line) -> Line:
        line.update(always)
        return line

    return add


class Renderer:
    """Makes the text of a line, the same way for every line of the process.

    Args:
        style: JSON for machines, console for people.
        lowest: The lowest level of ours that is written.
        always: Fields of every line, such as which worker writes it.
    """

    def __init__(
        self, style: LogFormat, lowest: int = logging.INFO, always: Mapping[str, object] = _NONE
    ) -> None:
        self.lowest = lowest
        first: tuple[Processor, ...] = (_adder(always),) if always else ()
        if style is LogFormat.JSON:
            self.last: tuple[Processor, ...] = (
                *first,
                structlog.processors.format_exc_info,
                redact,
                _render_json,
            )
        else:
            console = structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            )
            self.last = (*first, structlog.processors.format_exc_info, redact, console)

    def text(self, level: str, line: Line) -> str:
        """Render a line.

        Args:
            level: `info`, `warning` or `error`.
            line: Its fields, `timestamp` and `event` among them.
        """
        line["level"] = level
        result: Any = line
        for step in self.last:
            result = step(None, level, result)
        return cast("str", result)


class _Stream:
    """What structlog prints to: one write a line."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def msg(self, message: str) -> None:
        self._write(message.encode() + b"\n")

    debug = info = warning = error = critical = exception = log = msg


def configure(
    style: LogFormat = LogFormat.JSON,
    level: int = logging.INFO,
    write: Callable[[bytes], object] = write_stderr,
    always: Mapping[str, object] = _NONE,
) -> Renderer:
    """Set up logging for this process: ours, and that of the libraries at warning and above.

    Args:
        style: JSON for machines, console for people.
        level: The lowest level of ours that is written.
        write: Where lines go.
        always: Fields of every line, such as which worker writes it.

    Returns:
        The renderer, for `LineWriter`.
    """
    renderer = Renderer(style, level, always)
    first: list[Processor] = [structlog.processors.add_log_level, _stamp]
    structlog.configure(
        processors=[*first, *renderer.last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stream(write),
        cache_logger_on_first_use=False,
    )
    handler = _ForeignHandler(renderer, write)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    return renderer


class _ForeignHandler(logging.Handler):
    """Carries what libraries log through `logging` into our form."""

    def __init__(self, renderer: Renderer, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self._renderer = renderer
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        line: Line = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            line["exc_info"] = record.exc_info
        text = self._renderer.text(record.levelname.lower(), _stamp(None, "", line))
        self._write(text.encode() + b"\n")


def get_logger() -> FilteringBoundLogger:
    """Return the logger for everything that is not the one line of a call."""
    return cast("FilteringBoundLogger", structlog.get_logger())


class LineWriter:
    """Writes the calls' lines, all of one turn of the event loop at once.

    Args:
        renderer: Makes the text; another may take its place at any time.
        write: Where it goes.
        lost: Told how many lines could not be written.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        write: Callable[[bytes], object] = write_stderr,
        lost: Callable[[int], None],
    ) -> None:
        self.renderer = renderer
        self._write = write
        self._lost = lost
        self._waiting: list[tuple[str, Line]] = []

    def put(self, level: str, line: Line) -> None:
        """Take a line; it is written at the end of this turn of the event loop.

        Args:
            level: `info`, `warning` or `error`.
            line: Its fields; it belongs to the writer from now on.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((level, line))

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.write(waiting)

    def write(self, lines: Sequence[tuple[str, Line]]) -> None:
        """Write lines now, with one timestamp and one system call.

        Those under the configured level are left out.
        A log that cannot be written stops no one: the lines are counted as lost.

        Args:
            lines: Level and fields of each.
        """
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        text, lowest = self.renderer.text, self.renderer.lowest
        kept = [one for one in lines if _LEVELS[one[0]] >= lowest]
        if not kept:
            return
        for _, line in kept:
            line["timestamp"] = stamp
        data = "\n".join([text(level, line) for level, line in kept])
        try:
            self._write(data.encode() + b"\n")
        except OSError:
            self._lost(len(kept))
