"""When a backend is left alone, and when it is tried again."""

import time

from meshsigner.dispatch.breaker import Breaker, Circuit
from meshsigner.errors import BackendUnavailable

DOWN = BackendUnavailable("connection refused")


def _breaker() -> Breaker:
    return Breaker(failures=3, recovery_s=0.05, wrong_recovery_s=0.05)


def _is(breaker: Breaker, circuit: Circuit) -> bool:
    return breaker.circuit is circuit


def test_it_opens_after_failures_in_a_row() -> None:
    """A success in between starts the count anew."""
    breaker = _breaker()
    for _ in range(2):
        breaker.failed(DOWN)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(DOWN)
    assert _is(breaker, Circuit.CLOSED)
    breaker.failed(DOWN)
    assert _is(breaker, Circuit.OPEN)


def test_after_a_moment_it_is_tried_and_closes_with_a_success() -> None:
    """Half open until the trial ends: a failure opens it again, a success closes it."""
    breaker = _breaker()
    for _ in range(3):
        breaker.failed(DOWN)
    time.sleep(0.06)
    assert _is(breaker, Circuit.TRYING)
    breaker.failed(DOWN)
    assert _is(breaker, Circuit.OPEN)
    time.sleep(0.06)
    breaker.succeeded()
    assert _is(breaker, Circuit.CLOSED)


def test_a_wrong_certificate_opens_it_at_once_until_it_signs_right() -> None:
    """No answer alone closes it: what it signs must be right."""
    breaker = _breaker()
    breaker.signed_wrong()
    assert _is(breaker, Circuit.OPEN)
    time.sleep(0.06)
    breaker.succeeded()
    assert _is(breaker, Circuit.TRYING)
    breaker.signed_right()
    assert _is(breaker, Circuit.CLOSED)
