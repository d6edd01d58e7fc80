"""When calls are due: planned times, independent of how the server fares.

Pure. An open loop plans from a rate and never waits for answers, as pods don't wait
for each other; latency counts from the planned time, so that a server that stalls
is charged for everything that should have been sent meanwhile. A closed loop has no
plan: a call is due when the one before it in its slot is answered (driver.py).
"""

import random
from collections.abc import Iterable, Iterator
from typing import Final

NS_PER_S: Final = 1_000_000_000


def even_arrivals(rate_per_s: float, count: int) -> Iterator[int]:
    """Yield `count` offsets from the start in ns, equally far apart."""
    for number in range(count):
        yield round(number * NS_PER_S / rate_per_s)


def poisson_arrivals(rate_per_s: float, count: int, seed: int) -> Iterator[int]:
    """Yield `count` offsets in ns of independent arrivals; equal seeds, equal times."""
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    at_s = 0.0
    for _ in range(count):
        at_s += chance.expovariate(rate_per_s)
        yield round(at_s * NS_PER_S)


def stepped_arrivals(steps: Iterable[tuple[float, float]], seed: int) -> Iterator[int]:
    """Yield offsets in ns of independent arrivals whose rate changes in steps.

    Args:
        steps: (calls per second, seconds), one after the other; a rate of 0 is a pause.
        seed: Equal seeds, equal times.
    """
    chance = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    begins_s = 0.0
    for rate_per_s, seconds in steps:
        at_s = chance.expovariate(rate_per_s) if rate_per_s else seconds
        while at_s < seconds:
            yield round((begins_s + at_s) * NS_PER_S)
            at_s += chance.expovariate(rate_per_s)
        begins_s += seconds
