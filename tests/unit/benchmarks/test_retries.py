"""When Istio's clients ask again, against the figures of their sources."""

from itertools import islice

import pytest

from benchmarks.load.retries import agent_redials, agent_waits, dial_waits, node_waits
from tests.unit.benchmarks.asked import seeded

SEEDS = range(50)


@pytest.mark.parametrize("seed", SEEDS)
def test_agent_waits_a_tenth_of_a_second_twice_as_long_each_time(seed: int) -> None:
    """Four pauses between five attempts: 100, 200, 400, 800 ms, each within 10 %."""
    waits = list(agent_waits(seeded(seed)))
    assert len(waits) == 4
    for wait_s, expected_s in zip(waits, [0.1, 0.2, 0.4, 0.8], strict=True):
        assert expected_s * 0.9 <= wait_s <= expected_s * 1.1


@pytest.mark.parametrize("seed", SEEDS)
def test_agent_begins_anew_after_a_growing_pause(seed: int) -> None:
    """Bursts are half a second apart, then 1.5 times as long up to a minute, within 50 %."""
    waits = list(islice(agent_redials(seeded(seed)), 20))
    assert 0.25 <= waits[0] <= 0.75
    assert 0.375 <= waits[1] <= 1.125
    assert all(30 <= wait_s <= 90 for wait_s in waits[13:])


@pytest.mark.parametrize("seed", SEEDS)
def test_ztunnel_doubles_from_a_second_to_two_and_a_half_minutes(seed: int) -> None:
    """An identity's pauses double from 1 s up to 150 s, within 20 % even at the bound."""
    waits = list(islice(node_waits(seeded(seed)), 12))
    assert 0.8 <= waits[0] <= 1.2
    assert 1.6 <= waits[1] <= 2.4
    assert all(120 <= wait_s <= 180 for wait_s in waits[8:])


def test_a_channel_that_cannot_dial_waits_as_grpc_does() -> None:
    """Dials are a second apart at first, 1.6 times as long each time, within 20 %."""
    first, second = islice(dial_waits(seeded(1)), 2)
    assert 0.8 <= first <= 1.2
    assert 1.28 <= second <= 1.92
