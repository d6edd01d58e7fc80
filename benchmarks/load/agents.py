"""Populations of Istio's clients: each asks until it has its certificate, as the real one does.

A closed population: nobody new comes, so a server that refuses sees the same callers
again. When they ask again is retries.py's word; what they ask is made before the run.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Final, Protocol

from benchmarks.load.arrivals import NS_PER_S
from benchmarks.load.calls import NO_ANSWER, Answer, Call, Outcome, Sender
from benchmarks.load.headers import OK
from benchmarks.load.loads import Population
from benchmarks.load.retries import RETRIED, agent_redials, agent_waits

OnAttempt = Callable[[Answer], None]
Sleep = Callable[[float], Awaitable[None]]
Take = Callable[[], tuple[int, Call] | None]
Done = Callable[[int, Outcome], None]

_LOOK_S: Final = 0.05
"""How often an agent that is not wanted looks whether it is."""


class Line(Sender, Protocol):
    """A client's channel to the server."""

    def close(self) -> None:
        """Hang up."""


async def ask(sender: Sender, call: Call) -> Answer:
    """Send a call and wait for its answer."""
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def note(answer: Answer) -> None:
        if not answered.done():
            answered.set_result(answer)

    sender.send(call, note)
    return await answered


class Agent:
    """One istio-agent: five attempts on a channel, then another channel after a pause.

    Args:
        new_line: Makes a channel that has not dialled yet.
        chance: For all jitter.
        on_attempt: Told every single answer.
        sleep: Waits; a test's own does not.
    """

    def __init__(
        self,
        new_line: Callable[[], Line],
        chance: random.Random,
        on_attempt: OnAttempt,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._new_line = new_line
        self._chance = chance
        self._on_attempt = on_attempt
        self._sleep = sleep
        self.attempts = 0
        self.last = Answer(status=NO_ANSWER, message="never asked", body=b"", at_ns=0)

    async def obtain(self, call: Call) -> Answer:
        """Ask until there is a certificate, for ever if need be."""
        self.attempts = 0
        for pause_s in agent_redials(self._chance):
            line = self._new_line()
            try:
                self.last = await self._burst(line, call)
            finally:
                line.close()
            if self.last.status == OK:
                break
            await self._sleep(pause_s)
        return self.last

    async def _burst(self, line: Line, call: Call) -> Answer:
        """Make up to five attempts on one channel."""
        answer = await self._attempt(line, call)
        for pause_s in agent_waits(self._chance):
            if answer.status not in RETRIED:
                break
            await self._sleep(pause_s)
            answer = await self._attempt(line, call)
        return answer

    async def _attempt(self, line: Line, call: Call) -> Answer:
        self.attempts += 1
        answer = await ask(line, call)
        self._on_attempt(answer)
        return answer


class Crowd:
    """Agents that come one after the other to the same places, as pods to nodes.

    Args:
        population: How many, when, and with what pause between two of a place.
        make_agent: Makes an agent.
        take: Gives the next call with its position, None when there is none left.
        done: Told every identity's end.
        chance: For the pauses.
    """

    def __init__(
        self,
        population: Population,
        make_agent: Callable[[], Agent],
        take: Take,
        done: Done,
        chance: random.Random,
    ) -> None:
        self._population = population
        self._make_agent = make_agent
        self._take = take
        self._done = done
        self._chance = chance

    async def run(self, start_ns: int) -> None:
        """Have all agents ask from `start_ns` on; who is left at the end gets no answer."""
        places = [
            asyncio.create_task(self._place(number, start_ns))
            for number in range(self._population.most)
        ]
        end_ns = start_ns + round(self._population.ends_s * NS_PER_S)
        left_s = (end_ns - time.perf_counter_ns()) / NS_PER_S
        _, late = await asyncio.wait(places, timeout=max(left_s, 0))
        for place in late:
            place.cancel()
        await asyncio.gather(*places, return_exceptions=True)

    async def _place(self, number: int, start_ns: int) -> None:
        """Be one agent after the other, while this place is wanted."""
        await asyncio.sleep(self._pause_s())
        while (wanted := self._population.wants(number, _since(start_ns))) is not None:
            if not wanted:
                await asyncio.sleep(_LOOK_S)
                continue
            taken = self._take()
            if taken is None:
                return
            await self._one(*taken)
            if self._population.once:
                return
            await asyncio.sleep(self._pause_s())

    async def _one(self, position: int, call: Call) -> None:
        agent, planned_ns = self._make_agent(), time.perf_counter_ns()
        answer: Answer | None = None
        try:
            answer = await agent.obtain(call)
        finally:
            self._done(
                position,
                Outcome(
                    call=call,
                    planned_ns=planned_ns,
                    sent_ns=planned_ns,
                    answer=_given_up(agent.last) if answer is None else answer,
                    attempts=agent.attempts,
                ),
            )

    def _pause_s(self) -> float:
        """Return a pause of the population's mean; exponential, so that no waves stay."""
        mean_s = self._population.think_s
        return self._chance.expovariate(1 / mean_s) if mean_s else 0.0


def numbered(calls: Iterator[Call]) -> Take:
    """Return what gives one call after the other, with its position."""
    positions = count()

    def take() -> tuple[int, Call] | None:
        call = next(calls, None)
        return None if call is None else (next(positions), call)

    return take


def _since(start_ns: int) -> float:
    return (time.perf_counter_ns() - start_ns) / NS_PER_S


def _given_up(last: Answer) -> Answer:
    message = f"no certificate by the end; last: {last.message or last.status}"
    return Answer(status=NO_ANSWER, message=message, body=b"", at_ns=time.perf_counter_ns())
