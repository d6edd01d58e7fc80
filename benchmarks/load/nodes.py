"""Ztunnels: a node's identities over one channel, eight fetches at a time, each backing off."""

import asyncio
import heapq
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from benchmarks.load.agents import Done, OnAttempt, Take, ask
from benchmarks.load.arrivals import NS_PER_S
from benchmarks.load.calls import NO_ANSWER, Answer, Call, Outcome, Sender
from benchmarks.load.headers import OK
from benchmarks.load.retries import NODE_IN_FLIGHT, node_waits


@dataclass(slots=True, kw_only=True)
class _Wish:
    """An identity that has no certificate yet."""

    position: int
    call: Call
    planned_ns: int
    waits: Iterator[float]
    attempts: int = 0
    last: Answer = field(
        default_factory=lambda: Answer(status=NO_ANSWER, message="never asked", body=b"", at_ns=0)
    )


class Node:
    """One ztunnel.

    A failed identity waits without taking up one of the eight places; its next attempt
    comes before new identities. Whatever the status, it is asked again.

    Args:
        line: Its channel.
        chance: For the jitter.
        take: Gives the next call, None when there is none left.
        done: Told every identity's end.
        on_attempt: Told every answer.
    """

    def __init__(
        self, line: Sender, chance: random.Random, take: Take, done: Done, on_attempt: OnAttempt
    ) -> None:
        self._line = line
        self._chance = chance
        self._take = take
        self._done = done
        self._on_attempt = on_attempt
        self._failed: list[tuple[int, int, _Wish]] = []
        self._numbers = count()

    async def run(self, stop_ns: int, end_ns: int) -> None:
        """Fetch until the calls are used up or the time is over.

        Args:
            stop_ns: No new identity is begun after this.
            end_ns: Who has no certificate by then gets none.
        """
        slots = [asyncio.create_task(self._slot(stop_ns)) for _ in range(NODE_IN_FLIGHT)]
        left_s = max((end_ns - time.perf_counter_ns()) / NS_PER_S, 0)
        _, late = await asyncio.wait(slots, timeout=left_s)
        for slot in late:
            slot.cancel()
        await asyncio.gather(*slots, return_exceptions=True)
        for _, _, wish in self._failed:
            self._finish(wish, _nothing(wish.last))

    async def _slot(self, stop_ns: int) -> None:
        while True:
            wish = self._next(stop_ns)
            if wish is not None:
                await self._fetch(wish)
            elif self._failed:
                due_s = (self._failed[0][0] - time.perf_counter_ns()) / NS_PER_S
                await asyncio.sleep(max(due_s, 0.001))
            else:
                return

    def _next(self, stop_ns: int) -> _Wish | None:
        """Return the failed identity that is due, else a new one."""
        now_ns = time.perf_counter_ns()
        if self._failed and self._failed[0][0] <= now_ns:
            return heapq.heappop(self._failed)[2]
        taken = self._take() if now_ns < stop_ns else None
        if taken is None:
            return None
        position, call = taken
        waits = node_waits(self._chance)
        return _Wish(position=position, call=call, planned_ns=now_ns, waits=waits)

    async def _fetch(self, wish: _Wish) -> None:
        wish.attempts += 1
        try:
            wish.last = await ask(self._line, wish.call)
        except asyncio.CancelledError:
            self._finish(wish, _nothing(wish.last))
            raise
        self._on_attempt(wish.last)
        if wish.last.status == OK:
            self._finish(wish, wish.last)
        else:
            due_ns = time.perf_counter_ns() + round(next(wish.waits) * NS_PER_S)
            heapq.heappush(self._failed, (due_ns, next(self._numbers), wish))

    def _finish(self, wish: _Wish, answer: Answer) -> None:
        outcome = Outcome(
            call=wish.call,
            planned_ns=wish.planned_ns,
            sent_ns=wish.planned_ns,
            answer=answer,
            attempts=wish.attempts,
        )
        self._done(wish.position, outcome)


def _nothing(last: Answer) -> Answer:
    message = f"no certificate by the end; last: {last.message or last.status}"
    return Answer(status=NO_ANSWER, message=message, body=b"", at_ns=time.perf_counter_ns())
