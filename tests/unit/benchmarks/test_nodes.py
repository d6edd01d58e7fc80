"""Whether a ztunnel of the load fetches as ztunnel does."""

import time

from benchmarks.load.agents import numbered
from benchmarks.load.calls import NO_ANSWER, Outcome
from benchmarks.load.nodes import Node
from tests.unit.benchmarks.asked import OK, UNAUTHENTICATED, ScriptedLine, make_calls, seeded


async def run(line: ScriptedLine, calls: int, *, seconds: float) -> list[Outcome]:
    """Run a node until its calls are used up or the time is over."""
    outcomes: list[Outcome] = []
    now_ns = time.perf_counter_ns()
    stop_ns = now_ns + round(seconds * 1e9)

    def done(_: int, outcome: Outcome) -> None:
        outcomes.append(outcome)

    take = numbered(iter(make_calls(calls)))
    await Node(line, seeded(1), take, done, lambda _: None).run(stop_ns, stop_ns)
    return outcomes


async def test_eight_fetches_are_in_flight() -> None:
    """A node has eight fetches under way, no more, and does all of its calls."""
    line = ScriptedLine(after_s=0.002)
    outcomes = await run(line, 50, seconds=5)
    assert line.most_open == 8
    assert len(outcomes) == 50


async def test_failed_identity_comes_back_whatever_the_code() -> None:
    """A refused identity waits about a second without a place, and is asked again."""
    line = ScriptedLine([UNAUTHENTICATED])
    began = time.perf_counter()
    outcomes = await run(line, 20, seconds=5)
    assert 0.8 <= time.perf_counter() - began <= 2
    assert line.asked.count("id-0") == 2
    assert line.asked[-1] == "id-0"
    assert {outcome.answer.status for outcome in outcomes} == {OK}


async def test_time_ends_what_still_fails() -> None:
    """Who has no certificate at the end is an outcome too."""
    outcomes = await run(ScriptedLine([UNAUTHENTICATED] * 9), 2, seconds=0.1)
    assert [outcome.answer.status for outcome in outcomes] == [NO_ANSWER] * 2
