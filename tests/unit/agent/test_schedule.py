"""When a certificate is asked for next."""

from datetime import UTC, datetime, timedelta

import pytest

from meshsigner.agent.schedule import Timing, renewal_at, retry_after

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.5, NOW + DAY / 2),
        (0.0, NOW + DAY * 0.51),
        (1.0, NOW + DAY * 0.49),
    ],
)
def test_renewal_is_at_half_life_with_a_hundredth_of_jitter(
    number: float, expected: datetime
) -> None:
    """istio-agent's figures: SECRET_GRACE_PERIOD_RATIO 0.5, jitter 0.01 either way."""
    assert renewal_at(NOW, NOW + DAY, Timing(), number) == expected


def test_retries_grow_to_the_longest_wait() -> None:
    """Half a second, half as much more each time, a minute at most (istio pkg/backoff)."""
    waits = [retry_after(count, None, Timing(), 0.5).total_seconds() for count in range(1, 15)]
    assert waits[:4] == [0.5, 0.75, 1.125, 1.6875]
    assert waits[-1] == 60
    assert waits == sorted(waits)


def test_retries_of_a_short_life_are_short() -> None:
    """A certificate of 20 s is tried for each second, not once in a minute."""
    assert retry_after(50, timedelta(seconds=20), Timing(), 0.5) == timedelta(seconds=1)
    assert retry_after(50, timedelta(seconds=1), Timing(), 0.5) == timedelta(milliseconds=500)
    assert retry_after(50, DAY, Timing(), 0.5) == timedelta(seconds=60)


def test_longest_wait_is_a_setting() -> None:
    """Whoever wants to be back sooner says so."""
    timing = Timing(last_retry=timedelta(seconds=5))
    assert retry_after(50, None, timing, 0.5) == timedelta(seconds=5)
