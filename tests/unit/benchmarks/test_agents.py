"""Whether an agent of the load asks as istio-agent does, and a population stays what it is."""

import time
from itertools import count

from benchmarks.load.agents import Agent, Crowd, numbered
from benchmarks.load.calls import NO_ANSWER, Answer, Outcome
from benchmarks.load.loads import Population
from tests.unit.benchmarks.asked import (
    OK,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    ScriptedLine,
    make_calls,
    seeded,
)


class Told:
    """An agent whose pauses take no time, and everything that it did."""

    def __init__(self, *scripts: list[int]) -> None:
        self.lines: list[ScriptedLine] = []
        self.pauses: list[float] = []
        self.answers: list[int] = []
        self._scripts = iter(scripts)
        self.agent = Agent(self._line, seeded(1), self._note, self._sleep)

    def _line(self) -> ScriptedLine:
        self.lines.append(ScriptedLine(next(self._scripts, [])))
        return self.lines[-1]

    def _note(self, got: Answer) -> None:
        self.answers.append(got.status)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_refused_agent_asks_five_times_on_one_connection() -> None:
    """Codes that are retried are asked again after four growing pauses, over the same line."""
    told = Told([UNAVAILABLE, RESOURCE_EXHAUSTED, 10, 13])
    got = await told.agent.obtain(make_calls(1)[0])
    assert got.status == OK
    assert told.answers == [UNAVAILABLE, RESOURCE_EXHAUSTED, 10, 13, OK]
    assert len(told.lines) == 1
    assert [round(pause, 1) for pause in told.pauses] == [0.1, 0.2, 0.4, 0.8]


async def test_fifth_refusal_brings_a_new_connection() -> None:
    """After five refusals the line is hung up, and another one opened after a pause."""
    told = Told([UNAVAILABLE] * 5, [OK])
    await told.agent.obtain(make_calls(1)[0])
    assert [line.closed for line in told.lines] == [True, True]
    assert [len(line.asked) for line in told.lines] == [5, 1]
    assert 0.25 <= told.pauses[-1] <= 0.75
    assert told.agent.attempts == 6


async def test_other_codes_are_not_asked_again_on_the_same_connection() -> None:
    """A code that istio-agent does not retry ends the burst at once; the agent redials."""
    told = Told([UNAUTHENTICATED], [4], [OK])
    await told.agent.obtain(make_calls(1)[0])
    assert [len(line.asked) for line in told.lines] == [1, 1, 1]


def population(**changes: object) -> Population:
    """Return three places for a tenth of a second."""
    values: dict[str, object] = {"steps": ((3, 0.1),), "think_s": 0.0, "drain_s": 0.1}
    return Population(**(values | changes))  # type: ignore[arg-type]


async def run(crowd: Population, lines: list[ScriptedLine], calls: int) -> list[Outcome]:
    """Run a population on lines that are given out in turn."""
    outcomes: list[Outcome] = []
    numbers = count()

    def make_agent() -> Agent:
        line = lines[next(numbers) % len(lines)]
        return Agent(lambda: line, seeded(1), lambda _: None)

    def done(_: int, outcome: Outcome) -> None:
        outcomes.append(outcome)

    take = numbered(iter(make_calls(calls)))
    await Crowd(crowd, make_agent, take, done, seeded(1)).run(time.perf_counter_ns())
    return outcomes


async def test_each_place_has_one_agent_at_a_time() -> None:
    """A closed population never has more calls under way than places."""
    line = ScriptedLine(after_s=0.005)
    outcomes = await run(population(), [line], 1000)
    assert line.most_open == 3
    assert len({outcome.call.uri_san for outcome in outcomes}) == len(outcomes) > 10


async def test_one_identity_a_place_is_asked_once() -> None:
    """Where each place has one identity, the population is done when all have it."""
    outcomes = await run(population(steps=((5, 9.0),), once=True), [ScriptedLine()], 50)
    assert len(outcomes) == 5


async def test_who_has_nothing_at_the_end_is_told_of() -> None:
    """An identity that still waits when the run ends is an outcome without answer."""
    outcomes = await run(population(), [ScriptedLine([UNAVAILABLE] * 1000)], 3)
    assert [outcome.answer.status for outcome in outcomes] == [NO_ANSWER] * 3
    assert all(outcome.attempts > 1 for outcome in outcomes)


def test_places_come_and_go_by_the_plan() -> None:
    """A place is wanted in the steps that are wide enough for it, and not after the last."""
    plan = population(steps=((1, 10.0), (3, 10.0), (1, 10.0)))
    assert [plan.wants(2, at_s) for at_s in (5, 15, 25, 35)] == [False, True, False, None]
    assert [plan.share(number, 2).most for number in (0, 1)] == [2, 1]
