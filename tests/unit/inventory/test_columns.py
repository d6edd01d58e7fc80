"""Columns: every value of a record becomes a database's value and itself again."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.inventory.columns import COLUMNS, from_row, from_us, to_row, to_us
from meshsigner.model import Record
from tests.unit.inventory.records import any_record, make_record


@given(any_record())
def test_row_and_record_are_inverse(record: Record) -> None:
    """Whatever a record holds, its row holds, in types that any database has."""
    row = to_row(record)

    assert record == from_row(row)
    assert all(isinstance(value, str | int | bytes) for value in row)


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_exact_to_the_microsecond(moment: datetime) -> None:
    """No time that Python can tell is rounded."""
    assert moment == from_us(to_us(moment))


def test_times_of_other_zones_are_the_same_moment() -> None:
    """A time is stored as a moment: it comes back in UTC."""
    berlin = datetime(2026, 11, 24, 13, tzinfo=timezone(timedelta(hours=1)))

    assert berlin == from_us(to_us(berlin))
    assert from_us(to_us(berlin)).tzinfo is UTC


def test_columns_stand_in_the_order_of_the_row() -> None:
    """Each value of a row belongs to the column of the same place."""
    record = make_record()

    for name, value in zip(COLUMNS, to_row(record), strict=True):
        expected = getattr(record, name)
        assert value == (to_us(expected) if isinstance(expected, datetime) else expected), name


def test_row_of_somebody_else_is_refused() -> None:
    """A row whose time is no number is not taken for a record."""
    row = list(to_row(make_record()))
    row[COLUMNS.index("not_after")] = "tomorrow"

    with pytest.raises(TypeError, match="not a time: 'tomorrow'"):
        from_row(row)
