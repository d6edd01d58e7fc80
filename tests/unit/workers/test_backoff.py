"""How long to wait before a worker is started again."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.workers.backoff import FIRST_S, LONGEST_S, PROVEN_AFTER_S, Backoff


def _middle() -> float:
    return 0.5


def test_waits_double_up_to_a_bound() -> None:
    """The first restart comes almost at once, later ones ever later, up to the bound."""
    backoff = Backoff(_middle)
    waits = [backoff.next_s(0) for _ in range(12)]
    assert waits[0] == FIRST_S
    assert all(later == min(2 * earlier, LONGEST_S) for earlier, later in pairwise(waits))
    assert waits[-1] == LONGEST_S


def test_a_life_that_was_long_enough_forgives() -> None:
    """A worker that served for a while is succeeded at once; a shorter life changes nothing."""
    backoff = Backoff(_middle)
    for _ in range(5):
        backoff.next_s(0)
    assert backoff.next_s(PROVEN_AFTER_S - 1) == FIRST_S * 32
    assert backoff.next_s(PROVEN_AFTER_S) == FIRST_S
    assert backoff.next_s(0) == FIRST_S * 2


@given(st.lists(st.floats(0, 1), min_size=1, max_size=2_000))
def test_jitter_stays_within_a_fifth(jitter: list[float]) -> None:
    """However chance falls and however often, a wait is near what it should be."""
    chance = iter(jitter)
    backoff, plain = Backoff(lambda: next(chance)), Backoff(_middle)
    for _ in jitter:
        wait, wanted = backoff.next_s(0), plain.next_s(0)
        assert 0.79 * wanted <= wait <= 1.21 * wanted
