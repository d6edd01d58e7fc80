"""One driver process: its share of a load, from the first dial to the written outcomes.

The parent (crew.py) says when to begin and when to stop; this end says what it has
done. It opens no connection before it is told its load, and judges nothing.
"""

import asyncio
import gc
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import uvloop

from benchmarks.load.agents import Agent, Crowd, Take, numbered
from benchmarks.load.arrivals import NS_PER_S
from benchmarks.load.calls import Answer, Call, Outcome, Sender
from benchmarks.load.channel import Channel, Dialer, FreshConnections
from benchmarks.load.client import Connection
from benchmarks.load.driver import run_closed, run_open
from benchmarks.load.headers import OK
from benchmarks.load.loads import BUCKET_NS, Arrivals, Closed, Herd, Load, Nodes, Population, Warm
from benchmarks.load.nodes import Node
from benchmarks.load.records import write_outcomes

_REPORT_S = 0.25
_FOREVER_NS = 1 << 62
_LONGEST_S = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a process has to do.

    Args:
        load: The whole load.
        number: Which share of it, from 0.
        of: How many shares there are.
        seat: Number of the process among all of the run; picks its addresses.
        outcomes: File for what came back.
    """

    load: Load
    number: int
    of: int
    seat: int
    outcomes: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a process says when it is done.

    Args:
        attempts: How many answers of each status came in each quarter of a second, those
            in between of clients that ask again included: (bucket, status, number).
        messages: Texts of the refusals.
        cpu_s: The process's own CPU time while the load was on.
        lost: Idle connections of a herd that the server closed.
        ran_dry: Whether a population came to the end of its calls.
    """

    attempts: tuple[tuple[int, int, int], ...]
    messages: dict[str, int]
    cpu_s: float
    lost: int = 0
    ran_dry: bool = False


@dataclass(slots=True)
class _Books:
    """What a process writes down while it runs."""

    start_ns: int = 0
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    attempts: Counter[tuple[int, int]] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    granted: int = 0

    def attempt(self, answer: Answer) -> None:
        """Count an answer."""
        bucket = (answer.at_ns - self.start_ns) // BUCKET_NS
        self.attempts[bucket, answer.status] += 1
        if answer.status == OK:
            self.granted += 1
        else:
            self.messages[answer.message] += 1

    def done(self, position: int, outcome: Outcome) -> None:
        """Keep an identity's end."""
        self.outcomes.append((position, outcome))

    def both(self, position: int, outcome: Outcome) -> None:
        """Do both, where each call is asked once."""
        self.attempt(outcome.answer)
        self.done(position, outcome)


def work(task: Task, pipe: Pipe) -> None:
    """Do a share of a load; entry point of a process."""
    if task.load.cores:
        os.sched_setaffinity(0, task.load.cores)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_Shift(task, pipe).run())
        except (OSError, ValueError) as error:
            with suppress(OSError):
                pipe.send(("failed", f"{type(error).__name__}: {error}"))


class _Shift:
    def __init__(self, task: Task, pipe: Pipe) -> None:
        self._task = task
        self._load = task.load
        self._pipe = pipe
        self._books = _Books()
        self._chance = random.Random(1000 + task.seat)  # noqa: S311 - jitter, no secret
        self._dialer = Dialer(task.load.server, task.seat)
        self._stop = asyncio.Event()
        self._lines: list[Channel] = []
        self._herd: list[Connection] = []
        self._ran_dry = False
        self._lost = 0

    async def run(self) -> None:
        calls = self._calls()
        await self._prepare()
        gc.collect()
        gc.freeze()  # the calls stay: the collector need not look at them again and again
        self._pipe.send(("ready", None))
        self._books.start_ns = await asyncio.to_thread(self._pipe.recv)
        cpu_s, told = time.process_time(), asyncio.create_task(self._tell())
        listener = asyncio.create_task(self._listen())
        await self._drive(calls)
        told.cancel()
        cpu_s = time.process_time() - cpu_s
        await asyncio.to_thread(write_outcomes, self._task.outcomes, self._numbered())
        self._pipe.send(("done", self._report(cpu_s)))
        await listener

    def _calls(self) -> list[Call]:
        """Return every `of`-th call, from the share's number on."""
        return list(islice(self._load.calls.calls(), self._task.number, None, self._task.of))

    def _numbered(self) -> list[tuple[int, Outcome]]:
        first, step = self._task.number, self._task.of
        return [(first + step * own, outcome) for own, outcome in self._books.outcomes]

    def _report(self, cpu_s: float) -> Report:
        attempts = ((*key, number) for key, number in sorted(self._books.attempts.items()))
        return Report(
            attempts=tuple(attempts),
            messages=dict(self._books.messages.most_common(20)),
            cpu_s=cpu_s,
            lost=self._lost,
            ran_dry=self._ran_dry,
        )

    async def _listen(self) -> None:
        """Wait for the word to stop; a parent that is gone means the same."""
        with suppress(EOFError, OSError):
            await asyncio.to_thread(self._pipe.recv)
        self._stop.set()

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_S)
            done = sum(self._books.attempts.values())
            self._pipe.send(("progress", (done, self._books.granted)))

    async def _prepare(self) -> None:
        """Open what stands before the load begins."""
        pace, way = self._load.pace, self._load.way
        if isinstance(pace, Herd):
            await self._gather_herd(pace)
        elif isinstance(way, Warm) and not isinstance(pace, Nodes):
            share = max(way.connections // self._task.of, 1)
            self._lines = [Channel(self._dialer, self._chance) for _ in range(share)]
            for line in self._lines:
                await line.open()

    async def _gather_herd(self, herd: Herd) -> None:
        mine = herd.connections // self._task.of
        room = asyncio.Semaphore(herd.at_once)

        async def one() -> Connection:
            async with room:
                return await self._dialer.dial()

        self._herd = list(await asyncio.gather(*(one() for _ in range(mine))))

    async def _drive(self, calls: list[Call]) -> None:
        match self._load.pace:
            case Closed() as pace:
                await self._closed(calls, pace)
            case Arrivals() as pace:
                await self._open(calls, pace)
            case Population() as pace:
                await self._population(calls, pace.share(self._task.number, self._task.of))
            case Nodes() as pace:
                await self._nodes(calls, pace.share(self._task.number, self._task.of))
            case Herd():
                await self._idle()
        for line in self._lines:
            line.close()

    def _senders(self) -> Sequence[Sender]:
        return self._lines or [FreshConnections(self._dialer)]

    async def _closed(self, calls: list[Call], pace: Closed) -> None:
        await _sleep_until(self._books.start_ns)
        await run_closed(
            self._senders(),
            calls,
            in_flight=max(pace.in_flight // self._task.of, 1),
            timeout_s=self._load.timeout_s + (pace.seconds or _LONGEST_S),
            seconds=pace.seconds,
            on_outcome=self._books.both,
        )

    async def _open(self, calls: list[Call], pace: Arrivals) -> None:
        await run_open(
            self._senders(),
            calls,
            pace.offsets_ns(self._task.number, self._task.of),
            timeout_s=self._load.timeout_s,
            start_ns=self._books.start_ns,
            on_outcome=self._books.both,
        )

    async def _population(self, calls: list[Call], pace: Population) -> None:
        new_line = partial(Channel, self._dialer, self._chance)
        make_agent = partial(Agent, new_line, self._chance, self._books.attempt)
        crowd = Crowd(pace, make_agent, self._taker(calls), self._books.done, self._chance)
        await _sleep_until(self._books.start_ns)
        await crowd.run(self._books.start_ns)

    async def _nodes(self, calls: list[Call], pace: Nodes) -> None:
        start, seconds = self._books.start_ns, pace.seconds
        stop = _FOREVER_NS if seconds is None else start + round(seconds * NS_PER_S)
        end = min(stop + round(pace.drain_s * NS_PER_S), _FOREVER_NS)
        self._lines = [Channel(self._dialer, self._chance) for _ in range(pace.nodes)]
        take, books = self._taker(calls), self._books
        nodes = [Node(line, self._chance, take, books.done, books.attempt) for line in self._lines]
        await _sleep_until(start)
        await asyncio.gather(*(node.run(stop, end) for node in nodes))

    async def _idle(self) -> None:
        await self._stop.wait()
        self._lost = sum(connection.lost for connection in self._herd)
        for connection in self._herd:
            connection.close()
        await asyncio.sleep(0.5)

    def _taker(self, calls: list[Call]) -> Take:
        """Return what gives calls, and notes that there are none left."""
        take = numbered(iter(calls))

        def noting() -> tuple[int, Call] | None:
            taken = take()
            self._ran_dry = taken is None
            return taken

        return noting


async def _sleep_until(at_ns: int) -> None:
    await asyncio.sleep(max(at_ns - time.perf_counter_ns(), 0) / NS_PER_S)
