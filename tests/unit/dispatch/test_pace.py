"""When calls of a backend may start: the rate, its fall and its rise, one waiter."""

import asyncio

import pytest

from meshsigner.dispatch.pace import Pace


async def _starts(pace: Pace, count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    at: list[float] = []

    async def one() -> None:
        await pace.grant()
        at.append(loop.time() - began_s)

    await asyncio.gather(*(one() for _ in range(count)))
    return at


async def test_without_a_limit_starts_are_free() -> None:
    """No rate means no wait."""
    assert (await _starts(Pace(None), 200))[-1] < 0.2


@pytest.mark.parametrize("rate", [10, 40])
async def test_starts_are_spread_evenly(rate: int) -> None:
    """A second's allowance does not come at once: no window of 0.25 s has more than its share."""
    at = await _starts(Pace(rate), rate // 2)
    assert at[-1] >= 0.35
    for start in at:
        within = [other for other in at if start <= other < start + 0.25]
        assert len(within) <= rate * 0.25 + rate * 0.1 + 1


async def test_starts_are_granted_in_order() -> None:
    """Who waited first starts first."""
    pace, order = Pace(100), []

    async def one(number: int) -> None:
        await pace.grant()
        order.append(number)

    await asyncio.gather(*(one(n) for n in range(30)))
    assert order == list(range(30))


async def test_a_burst_of_refusals_halves_the_rate_once() -> None:
    """Many refusals at once are one sign that it is too much."""
    pace = Pace(100)
    for _ in range(10):
        pace.slow_down(None)
    assert pace.rate_per_s == 50


async def test_the_rate_never_falls_to_nothing() -> None:
    """However often it is lowered, something still starts."""
    pace = Pace(1)
    for _ in range(10):
        pace._changed_at_s = -10.0
        pace.slow_down(None)
    assert pace.rate_per_s == 0.2


async def test_the_rate_rises_again_up_to_its_setting() -> None:
    """Without further refusals the rate comes back, a tenth a second."""
    pace = Pace(100)
    pace.slow_down(None)
    for _ in range(20):
        pace._changed_at_s = -10.0
        await pace.grant()
    assert pace.rate_per_s == 100


async def test_a_learnt_rate_is_forgotten_in_the_end() -> None:
    """A backend without a setting is free again after a long time without refusals."""
    pace = Pace(None)
    await _starts(pace, 20)
    pace.slow_down(None)
    rates = [pace.rate_per_s]
    for _ in range(120):
        pace._changed_at_s = -10.0
        await pace.grant()
        rates.append(pace.rate_per_s)
    assert rates[0] == 10
    assert rates[-1] is None


async def test_a_backend_is_left_alone_as_long_as_it_asks() -> None:
    """Retry-After is kept."""
    pace = Pace(None)
    pace.slow_down(0.2)
    assert (await _starts(pace, 1))[0] >= 0.19
