"""One log line and one set of counts for every call, refused ones too.

Both are queued when a call ends and done once per turn of the event loop, after
the callers have been answered: a hundred calls that one turn finished cost one
write and one round of counting, and a fault in here leaves no caller hanging.
"""

import asyncio
import time
import traceback
from collections import Counter

from grpc import StatusCode

from meshsigner.errors import ServiceFault
from meshsigner.model import Chain
from meshsigner.observe.logs import Line, LineWriter
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event, Outcome
from meshsigner.rpc.calls import Call
from meshsigner.rpc.status import reason_of, status_of

_Ended = tuple[Call, float, Chain | BaseException]


class CallReports:
    """Tells log and metrics how calls ended.

    Args:
        metrics: Counts.
        lines: Writes.
    """

    def __init__(self, metrics: Metrics, lines: LineWriter) -> None:
        self._metrics = metrics
        self._lines = lines
        self._ended: list[_Ended] = []

    def put(self, call: Call, result: Chain | BaseException) -> None:
        """Take the end of a call; told at the end of this turn of the event loop.

        Args:
            call: What ended.
            result: The answer, or what ended the call instead.
        """
        if not self._ended:
            asyncio.get_running_loop().call_soon(self.flush)
        self._ended.append((call, time.perf_counter() - call.arrived_s, result))

    def flush(self) -> None:
        """Tell everything that waits."""
        ended, self._ended = self._ended, []
        if ended:
            self._lines.write([_line(*one) for one in ended])
            self._count(ended)

    def _count(self, ended: list[_Ended]) -> None:
        """Count the whole group at once."""
        reasons = Counter([str(call.line["reason"]) for call, _, _ in ended])
        issued = [(call, took, chain) for call, took, chain in ended if isinstance(chain, Chain)]
        self._metrics.forwarded_ignored(sum("forwarded_ignored" in c.line for c, _, _ in ended))
        self._metrics.calls_ended(
            ended=reasons,
            issued=Counter([(str(c.line.get("auth_method", "")), r.backend) for c, _, r in issued]),
            seconds=[took for _, took, _ in issued],
        )


def _line(call: Call, duration_s: float, result: Chain | BaseException) -> tuple[str, Line]:
    """Complete a call's line; it is the log's from now on."""
    line: Line = call.line
    line["event"] = Event.CALL
    line["code"] = _code(result)
    line["reason"] = _reason(result)
    line["duration_ms"] = round(duration_s * 1_000, 3)
    if isinstance(result, Chain | asyncio.CancelledError):
        return "info", line
    line["cause"] = _cause(result)
    if status_of(result) is StatusCode.INTERNAL:
        line["exception"] = "".join(traceback.format_exception(result))
    return _level(result), line


def _code(result: Chain | BaseException) -> str:
    if isinstance(result, Chain):
        return StatusCode.OK.name
    if isinstance(result, asyncio.CancelledError):
        return StatusCode.CANCELLED.name
    return status_of(result).name


def _reason(result: Chain | BaseException) -> str:
    if isinstance(result, Chain):
        return Outcome.OK
    if isinstance(result, asyncio.CancelledError):
        return Outcome.CANCELLED
    return reason_of(result)


def _cause(error: BaseException) -> str:
    """Tell an error and what it came from: for the log alone."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    cause = error.__cause__
    return told if cause is None else f"{told}; {type(cause).__name__}: {cause}"


def _level(error: BaseException) -> str:
    """Let the callers' faults warn and ours alarm."""
    ours = isinstance(error, ServiceFault) or status_of(error) is StatusCode.INTERNAL
    return "error" if ours else "warning"
