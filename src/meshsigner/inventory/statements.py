"""The statements that write rows, each one call into SQLite whatever the number of rows.

All rows of a commit go in with one statement: while the event loop computes,
each further call of a thread waits up to 5 ms for the interpreter's lock, so
that a statement a row would take seconds for 250 rows. Rows are bound as
parameters of a many-row VALUES, which costs half the CPU of handing them over
as JSON; docs/audit-log.md has the figures.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

from meshsigner.inventory.columns import COLUMNS, Value
from meshsigner.inventory.connection import transaction

Row = tuple[Value, ...]

# Rows a statement has room for. To prepare one costs 17 us a row, as much as to
# run it, so that only these few sizes exist and stay prepared: what is missing
# to the next is filled with NULLs that LIMIT cuts off.
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
MAX_ROWS = _SIZES[-1]  # 10,752 parameters; SQLite's own limit is 32,766

_NO_ROW = (None,) * len(COLUMNS)
_TRIAL_ROW: Row = (*("",) * (len(COLUMNS) - 1), bytes(4_096))  # larger than any real one
# A row alone rewrites a page of the table and of each index: as much must find
# room in the log for a probe to say that a row would.
_PROBE_BYTES = 24 * 1024
_WRITE_PROBE = "INSERT OR REPLACE INTO probe VALUES (1, ?, zeroblob(?))"
_MARK_UNDELIVERED = """
    UPDATE certificates SET delivered = 0
    WHERE serial IN (SELECT value FROM json_each(?))
"""
_DELETE_EXPIRED = """
    DELETE FROM certificates WHERE id IN (
        SELECT id FROM certificates WHERE not_after < ? ORDER BY not_after LIMIT ?
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How full a database is; free pages inside the file count as free.

    Attributes:
        used_share: From 0 to 1, of what may be used.
        left_bytes: Up to the size bound.
    """

    used_share: float
    left_bytes: int


def store(connection: sqlite3.Connection, rows: Sequence[Row], undelivered: str) -> None:
    """Write rows and notes in one commit.

    Args:
        connection: In autocommit mode.
        rows: Any number.
        undelivered: Serials that nobody took, a JSON array; empty for none.
            One that is unknown has left by retention and is passed over.

    Raises:
        sqlite3.Error: Nothing was written.
    """
    if len(rows) <= MAX_ROWS and not undelivered:
        if rows:
            _insert(connection, rows)  # one statement is a commit of its own
        return
    with transaction(connection):
        for start in range(0, len(rows), MAX_ROWS):
            _insert(connection, rows[start : start + MAX_ROWS])
        if undelivered:
            connection.execute(_MARK_UNDELIVERED, (undelivered,))


def try_a_row(connection: sqlite3.Connection, written_at_us: int) -> None:
    """Insert a large row and take it back, then commit as many pages as a row changes.

    The first proves the room within the size bound and the tables, the second
    the way to the disk.

    Args:
        connection: In autocommit mode.
        written_at_us: Time of the trial, microseconds since 1970.

    Raises:
        sqlite3.Error: A row could not be written now.
    """
    with transaction(connection):
        connection.execute("SAVEPOINT trial")
        _insert(connection, [_TRIAL_ROW])
        connection.execute("ROLLBACK TO trial")
        connection.execute(_WRITE_PROBE, (written_at_us, _PROBE_BYTES))


def delete_expired(connection: sqlite3.Connection, before_us: int, at_most: int) -> int:
    """Delete rows of expired certificates, the longest expired first.

    Args:
        connection: Any.
        before_us: Expired before this time, microseconds since 1970.
        at_most: How many at once.

    Returns:
        How many were deleted.

    Raises:
        sqlite3.Error: None was deleted.
    """
    return connection.execute(_DELETE_EXPIRED, (before_us, at_most)).rowcount


def room(connection: sqlite3.Connection) -> Room:
    """Measure how full the database is.

    Raises:
        sqlite3.Error: It cannot be read.
    """
    pages, free, bound, page_bytes = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "max_page_count", "page_size")
    )
    used = pages - free
    return Room(used_share=used / bound, left_bytes=(bound - used) * page_bytes)


@cache  # the same string object each time: its hash finds the prepared statement
def insert_statement(size: int) -> str:
    """Return the statement that has room for `size` rows and a bound on those that count."""
    row = f"({', '.join('?' * len(COLUMNS))})"
    rows = ", ".join([row] * size)
    columns = ", ".join(COLUMNS)
    # names and question marks only, no value is part of the text
    return f"INSERT INTO certificates ({columns}) SELECT * FROM (VALUES {rows}) LIMIT ?"  # noqa: S608


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert 1 to `MAX_ROWS` rows with one statement."""
    size = _SIZES[bisect_left(_SIZES, len(rows))]
    padding = _NO_ROW * (size - len(rows))
    connection.execute(insert_statement(size), (*chain.from_iterable(rows), *padding, len(rows)))
