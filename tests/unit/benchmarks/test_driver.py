"""When the driver sends, what it counts from, and what it does about silence."""

import asyncio
import time

from benchmarks.load.arrivals import even_arrivals, poisson_arrivals
from benchmarks.load.calls import NO_ANSWER, Answer, Call, OnAnswer
from benchmarks.load.driver import run_closed, run_open

CALLS = [
    Call(token_block=b"", body=b"", public_key_der=b"", uri_san=str(number)) for number in range(20)
]


class SlowSender:
    """Answers each call after a time, or never."""

    def __init__(self, *, answer_after_s: float | None) -> None:
        self.open = 0
        self.most_open = 0
        self._answer_after_s = answer_after_s

    def send(self, _call: Call, on_answer: OnAnswer) -> None:
        """Take a call."""
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        if self._answer_after_s is not None:
            asyncio.get_running_loop().call_later(self._answer_after_s, self._answer, on_answer)

    def _answer(self, on_answer: OnAnswer) -> None:
        self.open -= 1
        on_answer(Answer(status=0, message="", body=b"", at_ns=time.perf_counter_ns()))


class StallingSender:
    """Blocks the whole driver with its first call, then answers at once."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s

    def send(self, _call: Call, on_answer: OnAnswer) -> None:
        """Take a call."""
        time.sleep(self._stall_s)
        self._stall_s = 0
        on_answer(Answer(status=0, message="", body=b"", at_ns=time.perf_counter_ns()))


async def test_latency_counts_from_the_planned_time() -> None:
    """A stall is charged to every call that was due meanwhile, not to the first alone."""
    offsets = even_arrivals(rate_per_s=100, count=10)
    outcomes = await run_open([StallingSender(0.1)], CALLS[:10], offsets, timeout_s=5)
    late = [outcome.latency_ns for outcome in outcomes]
    assert late[0] >= 100e6
    assert late[5] >= 50e6


async def test_closed_loop_keeps_its_number_in_flight() -> None:
    """The closed loop never has more calls under way than it was told, and does them all."""
    sender = SlowSender(answer_after_s=0.001)
    outcomes = await run_closed([sender], CALLS, in_flight=4, timeout_s=5)
    assert sorted(int(outcome.call.uri_san) for outcome in outcomes) == list(range(20))
    assert sender.most_open == 4


async def test_silence_is_an_outcome() -> None:
    """Calls that nobody answered are counted as such once the run's time is over."""
    outcomes = await run_open(
        [SlowSender(answer_after_s=None)], CALLS[:3], even_arrivals(1000, 3), timeout_s=0.05
    )
    assert [outcome.answer.status for outcome in outcomes] == [NO_ANSWER] * 3


def test_poisson_arrivals_keep_the_rate() -> None:
    """Random arrivals come in order, at the asked rate on average, the same for a seed."""
    offsets = list(poisson_arrivals(rate_per_s=1000, count=10_000, seed=1))
    assert offsets == sorted(offsets)
    assert 9.5e9 < offsets[-1] < 10.5e9
    assert offsets == list(poisson_arrivals(rate_per_s=1000, count=10_000, seed=1))
