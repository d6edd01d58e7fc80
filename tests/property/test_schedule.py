"""Whatever settings and chance are, a renewal is in time and a fleet is spread."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.agent.schedule import Timing, renewal_at, retry_after

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
random = st.floats(0, 1)


@given(st.floats(0, 1), st.floats(0, 1), random)
def test_renewal_is_never_outside_the_lifetime(ratio: float, jitter: float, number: float) -> None:
    """However the settings are, a certificate is renewed while it is valid."""
    timing = Timing(grace_ratio=ratio, grace_jitter=jitter)
    assert NOW <= renewal_at(NOW, NOW + DAY, timing, number) <= NOW + DAY


@given(st.integers(1, 10**9), random)
def test_retry_is_spread_by_half_either_way(failures: int, number: float) -> None:
    """A fleet that failed together does not try again together, and no count overflows."""
    middle = retry_after(failures, None, Timing(), 0.5)
    assert middle / 2 <= retry_after(failures, None, Timing(), number) <= middle * 1.5
    assert middle <= timedelta(seconds=60)
