"""What tests of clients share: calls, answers, and a line to nobody that plays a script."""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator

from benchmarks.load.calls import Answer, Call, OnAnswer

OK = 0
RESOURCE_EXHAUSTED = 8
UNAVAILABLE = 14
UNAUTHENTICATED = 16


def make_calls(number: int) -> list[Call]:
    """Return calls that are told apart by their names."""
    return [
        Call(token_block=b"", body=b"", public_key_der=b"", uri_san=f"id-{n}")
        for n in range(number)
    ]


def seeded(seed: int) -> random.Random:
    """Return jitter that is the same each time."""
    return random.Random(seed)  # noqa: S311 - no secret


def answer(status: int) -> Answer:
    """Return an answer of now."""
    return Answer(status=status, message="", body=b"", at_ns=time.perf_counter_ns())


class ScriptedLine:
    """Answers with one status after the other, and with OK when there are no more.

    Attributes:
        asked: Names of the calls, in order.
        closed: Whether it was hung up.
    """

    def __init__(self, statuses: Iterable[int] = (), *, after_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self.closed = False
        self.open = 0
        self.most_open = 0
        self._statuses: Iterator[int] = iter(statuses)
        self._after_s = after_s

    def send(self, call: Call, on_answer: OnAnswer) -> None:
        """Take a call."""
        self.asked.append(call.uri_san)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        asyncio.get_running_loop().call_later(self._after_s, self._answer, on_answer)

    def close(self) -> None:
        """Hang up."""
        self.closed = True

    def _answer(self, on_answer: OnAnswer) -> None:
        self.open -= 1
        on_answer(answer(next(self._statuses, OK)))
