"""A term ends by the local clock alone, and never begins again."""

import pytest

from meshsigner.cluster.term import Term, TermOver, boot_clock


def test_term_is_valid_until_its_end() -> None:
    """At the very moment in which another may lead, it is over."""
    now = [100.0]
    term = Term(108.0, lambda: now[0])
    term.check()
    now[0] = 107.99
    term.check()
    now[0] = 108.0
    with pytest.raises(TermOver):
        term.check()


def test_renewed_term_goes_on() -> None:
    """A renewal in time moves the end."""
    now = [0.0]
    term = Term(8.0, lambda: now[0])
    term.extend(12.0)
    now[0] = 11.9
    term.check()


def test_term_that_was_over_stays_over() -> None:
    """A renewal whose answer comes late, after a freeze, brings nothing back."""
    now = [0.0]
    term = Term(8.0, lambda: now[0])
    now[0] = 9.0
    term.extend(20.0)
    assert not term.is_valid()


def test_ended_term_is_over() -> None:
    """Who gives up leads no more, whatever the clock says."""
    term = Term(8.0, lambda: 0.0)
    term.end()
    assert not term.is_valid()


def test_clock_goes_on() -> None:
    """The real clock counts in seconds and never goes back."""
    assert 0 < boot_clock() <= boot_clock()
