"""Statements: one call a commit whatever the size, and an index behind each."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.inventory import schema
from meshsigner.inventory.columns import COLUMNS, to_row, to_us
from meshsigner.inventory.statements import (
    _DELETE_EXPIRED,
    _MARK_UNDELIVERED,
    _SIZES,
    MAX_ROWS,
    Row,
    delete_expired,
    insert_statement,
    room,
    store,
    try_a_row,
)
from tests.unit.inventory.records import NOW, make_record

SELECT_ALL = f"SELECT {', '.join(COLUMNS)} FROM certificates ORDER BY id"  # noqa: S608 - names


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """An inventory in memory."""
    with closing(_new()) as connection:
        yield connection


def _new() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection)
    return connection


def _rows(number: int) -> list[Row]:
    return [to_row(make_record()) for _ in range(number)]


@given(st.one_of(st.integers(1, 40), st.sampled_from([*_SIZES, *(n + 1 for n in _SIZES)])))
def test_rows_go_in_as_they_are(number: int) -> None:
    """Any number of rows is stored complete, in order, and nothing beside."""
    rows = _rows(number)
    with closing(_new()) as connection:
        store(connection, rows, "")

        assert rows == connection.execute(SELECT_ALL).fetchall()


@pytest.mark.parametrize("number", [1, 5, 250, MAX_ROWS])
def test_group_is_one_statement(connection: sqlite3.Connection, number: int) -> None:
    """A group up to the largest size needs a single call, its own commit."""
    calls: list[str] = []
    connection.set_trace_callback(calls.append)
    store(connection, _rows(number), "")

    assert len(calls) == 1


def test_larger_group_is_one_commit_all_the_same(connection: sqlite3.Connection) -> None:
    """Several statements share one transaction: a later one that fails takes all back."""
    rows = _rows(MAX_ROWS + 2)
    rows[-1] = rows[0]  # the same serial and issuer again

    with pytest.raises(sqlite3.IntegrityError):
        store(connection, rows, "")
    assert connection.execute(SELECT_ALL).fetchall() == []
    assert not connection.in_transaction


def test_nothing_to_store_is_no_commit(connection: sqlite3.Connection) -> None:
    """An empty group does not touch the file."""
    calls: list[str] = []
    connection.set_trace_callback(calls.append)
    store(connection, [], "")

    assert calls == []


def test_undelivered_rows_are_noted_in_the_same_commit(connection: sqlite3.Connection) -> None:
    """Notes go with the rows, on rows of this group and of earlier ones; unknown ones pass."""
    earlier, now, kept = _rows(3)
    store(connection, [earlier, kept], "")
    store(connection, [now], json.dumps([earlier[0], now[0], "dead"]))
    delivered = dict(connection.execute("SELECT serial, delivered FROM certificates"))

    assert {earlier[0]: 0, now[0]: 0, kept[0]: 1} == delivered


def test_note_is_taken_back_with_its_group(connection: sqlite3.Connection) -> None:
    """A group that fails leaves no note either."""
    row = _rows(1)[0]
    store(connection, [row], "")

    with pytest.raises(sqlite3.OperationalError, match="JSON"):
        store(connection, _rows(1), json.dumps([row[0]])[:-1])
    assert [row] == connection.execute(SELECT_ALL).fetchall()


def test_trial_leaves_no_row(connection: sqlite3.Connection) -> None:
    """A trial writes its mark, once for all, and no certificate."""
    try_a_row(connection, 1)
    try_a_row(connection, 2)

    assert connection.execute(SELECT_ALL).fetchall() == []
    assert connection.execute("SELECT id, written_at FROM probe").fetchall() == [(1, 2)]


def test_longest_expired_are_deleted_first(connection: sqlite3.Connection) -> None:
    """Only what expired before the time goes, oldest first, no more than asked."""
    ends = [NOW.replace(second=second) for second in (5, 1, 4, 2, 3)]
    store(connection, [to_row(make_record(not_after=end)) for end in ends], "")
    before = to_us(NOW.replace(second=4))

    assert [delete_expired(connection, before, 2) for _ in range(3)] == [2, 1, 0]
    left = connection.execute("SELECT not_after FROM certificates ORDER BY 1").fetchall()
    assert [(before,), (to_us(NOW.replace(second=5)),)] == left


@pytest.mark.parametrize(
    ("sql", "values", "index"),
    [
        (_DELETE_EXPIRED, (0, 1), "certificates_not_after (not_after<?)"),
        (_MARK_UNDELIVERED, ("[]",), "certificates_serial (serial=?)"),
    ],
)
def test_index_is_used(
    connection: sqlite3.Connection, sql: str, values: tuple[object, ...], index: str
) -> None:
    """Neither a deletion nor a note looks through the table."""
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]

    assert any(index in step for step in steps)
    assert not any(step.startswith("SCAN certificates") for step in steps)


def test_statements_fit_any_sqlite(connection: sqlite3.Connection) -> None:
    """The largest statement keeps to SQLite's default bound on parameters."""
    assert insert_statement(MAX_ROWS).count("?") <= 32_766
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    store(connection, _rows(MAX_ROWS), "")


def test_room_counts_freed_pages_as_free(connection: sqlite3.Connection) -> None:
    """What was deleted leaves room: the file keeps its pages, and uses them again."""
    connection.execute("PRAGMA max_page_count = 1000")
    empty = room(connection)
    store(connection, [to_row(make_record(not_after=NOW)) for _ in range(300)], "")
    full = room(connection)
    while delete_expired(connection, to_us(NOW) + 1, 100):
        pass

    assert 0.05 < full.used_share < 1
    assert full.left_bytes < empty.left_bytes < 1000 * 4096
    assert full.left_bytes < room(connection).left_bytes
