"""Sends calls over connections, in closed or open loop, and keeps the books.

It leaves the bytes to client.py, the schedule to arrivals.py and the judgement of
what came back to audit.py.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle
from typing import Final

from benchmarks.load.arrivals import NS_PER_S
from benchmarks.load.calls import NO_ANSWER, Answer, Call, Outcome, Sender

OnProgress = Callable[[], None]
OnOutcome = Callable[[int, Outcome], None]
"""Told each outcome with its call's number, from 0 in the order of sending."""

_SPIN_NS: Final = 1_500_000
"""The event loop's timers are good to a millisecond: the last bit is spun away."""

_SPIN_AT_MOST_PER_S: Final = 200.0
"""Beyond this rate spinning would take a core from the server; a call is then up to a
millisecond late, and its latency has that in it."""


class Book:
    """What is under way and what has come back in one run.

    Args:
        expected: How many calls the run consists of.
        on_progress: Called after each answer.
        on_outcome: Told each outcome.
    """

    def __init__(
        self, expected: int, on_progress: OnProgress, on_outcome: OnOutcome | None = None
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._open: dict[int, tuple[Call, int, int]] = {}
        self._sent = 0
        self._expected = expected
        self._on_progress = on_progress
        self._on_outcome = on_outcome
        self._complete = asyncio.Event()
        if not expected:
            self._complete.set()

    def launch(
        self, connection: Sender, call: Call, planned_ns: int, then: OnProgress | None = None
    ) -> None:
        """Send a call and note its outcome when it comes; then call `then`."""
        number, self._sent = self._sent, self._sent + 1
        self._open[number] = (call, planned_ns, time.perf_counter_ns())
        connection.send(call, partial(self._note, number, then))

    def enough(self) -> None:
        """Expect no more than what has been sent."""
        self._expected = self._sent
        if len(self.outcomes) == self._expected:
            self._complete.set()

    async def close(self, timeout_s: float) -> list[Outcome]:
        """Return all outcomes; a call without answer after `timeout_s` is NO_ANSWER."""
        try:
            await asyncio.wait_for(self._complete.wait(), timeout_s)
        except TimeoutError:
            now_ns = time.perf_counter_ns()
            lost = Answer(status=NO_ANSWER, message="no answer in time", body=b"", at_ns=now_ns)
            for number in list(self._open):
                self._note(number, None, lost)
        return self.outcomes

    def _note(self, number: int, then: OnProgress | None, answer: Answer) -> None:
        entry = self._open.pop(number, None)
        if entry is None:
            return
        call, planned_ns, sent_ns = entry
        outcome = Outcome(call=call, planned_ns=planned_ns, sent_ns=sent_ns, answer=answer)
        self.outcomes.append(outcome)
        if self._on_outcome is not None:
            self._on_outcome(number, outcome)
        if len(self.outcomes) == self._expected:
            self._complete.set()
        self._on_progress()
        if then is not None:
            then()


def ignore_progress() -> None:
    """Take no notice."""


async def run_closed(
    connections: Sequence[Sender],
    calls: Sequence[Call],
    *,
    in_flight: int,
    timeout_s: float,
    seconds: float | None = None,
    on_progress: OnProgress = ignore_progress,
    on_outcome: OnOutcome | None = None,
) -> list[Outcome]:
    """Keep `in_flight` calls under way, spread over the connections.

    Args:
        connections: What carries the calls.
        calls: What is sent, in order.
        in_flight: How many are under way at any time.
        timeout_s: How long answers are waited for, from the first call on.
        seconds: When the last call is sent; None is when there are no more.
        on_progress: Called after each answer.
        on_outcome: Told each outcome.
    """
    book = Book(len(calls), on_progress, on_outcome)
    source = iter(calls)
    stop_ns = None if seconds is None else time.perf_counter_ns() + round(seconds * NS_PER_S)

    def launch_next(connection: Sender) -> None:
        over = stop_ns is not None and time.perf_counter_ns() >= stop_ns
        call = None if over else next(source, None)
        if call is None:
            book.enough()
        else:
            again = partial(launch_next, connection)
            book.launch(connection, call, time.perf_counter_ns(), again)

    for _, connection in zip(range(in_flight), cycle(connections), strict=False):
        launch_next(connection)
    return await book.close(timeout_s)


async def run_open(
    connections: Sequence[Sender],
    calls: Sequence[Call],
    offsets_ns: Iterable[int],
    *,
    timeout_s: float,
    start_ns: int | None = None,
    on_progress: OnProgress = ignore_progress,
    on_outcome: OnOutcome | None = None,
) -> list[Outcome]:
    """Send each call at its planned offset, whatever became of those before.

    Args:
        connections: What carries the calls, in turn.
        calls: One for each offset.
        offsets_ns: Planned times, ns after the start, in order.
        timeout_s: How long after the last call answers are waited for.
        start_ns: The start, on the monotonic clock; None is now.
        on_progress: Called after each answer.
        on_outcome: Told each outcome.
    """
    plan = list(zip(calls, offsets_ns, cycle(connections), strict=False))
    book = Book(len(plan), on_progress, on_outcome)
    start_ns = time.perf_counter_ns() if start_ns is None else start_ns
    spin = bool(plan) and len(plan) * NS_PER_S < _SPIN_AT_MOST_PER_S * max(plan[-1][1], 1)
    for call, offset_ns, connection in plan:
        planned_ns = start_ns + offset_ns
        await _sleep_until(planned_ns, spin=spin)
        book.launch(connection, call, planned_ns)
    return await book.close(timeout_s)


async def run_lone(
    connection: Sender, calls: Sequence[Call], *, pause_s: float, timeout_s: float
) -> list[Outcome]:
    """Send one call at a time, with a pause after each answer that lets the server rest."""
    outcomes: list[Outcome] = []
    for call in calls:
        book = Book(1, ignore_progress)
        book.launch(connection, call, time.perf_counter_ns())
        outcomes += await book.close(timeout_s)
        await asyncio.sleep(pause_s)
    return outcomes


async def _sleep_until(at_ns: int, *, spin: bool) -> None:
    reserve_ns = _SPIN_NS if spin else 0
    while (left_ns := at_ns - time.perf_counter_ns()) > 0:  # noqa: ASYNC110 - a clock
        await asyncio.sleep(max(left_ns - reserve_ns, 0) / NS_PER_S)
