"""Reads the SQLite inventory, from any process, while its server runs or not.

Talks to the file read-only; what may be asked is `query`'s, how it is shown
the command line's. An answer is read in pages of its own short transactions:
one long one, held by somebody who scrolls, would keep the server's log from
ever being emptied.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self

from meshsigner.inventory import schema
from meshsigner.inventory.columns import COLUMNS, from_row, to_us
from meshsigner.inventory.connection import close_quietly, open_reader
from meshsigner.inventory.faults import Unusable, explain
from meshsigner.inventory.query import Query, Unreadable
from meshsigner.model import Record

PAGE_ROWS = 256  # rows in memory at once: some 300 KiB
_BUSY_TIMEOUT = timedelta(seconds=2)  # only while a server starts or ends
_NEWEST_FIRST = ("issued_at", "DESC", "<")
_SOONEST_EXPIRY_FIRST = ("not_after", "ASC", ">")

Position = tuple[int, int]  # where a page ended: the ordering column and the row's id


class InventoryReader:
    """Answers queries; belongs to the thread that made it.

    Args:
        path: Database file.

    Raises:
        Unreadable: There is none, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            msg = f"inventory {path}: there is no such file: no server has recorded anything there"
            raise Unreadable(msg)
        with self._readable():
            self._connection = open_reader(path, busy_timeout=_BUSY_TIMEOUT)
        try:
            with self._readable():
                schema.check_version(self._connection)
        except Unreadable:
            self.close()
            raise

    def find(self, query: Query) -> Iterator[Record]:
        """Yield the certificates that a query asks for, in its order.

        Raises:
            Unreadable: The file cannot be read, or not any more.
        """
        left = query.limit
        position: Position | None = None
        while left is None or left > 0:
            wanted = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            records, position = self._page(query, position, wanted)
            yield from records
            if position is None:
                return
            left = None if left is None else left - len(records)

    def close(self) -> None:
        """Release the file."""
        close_quietly(self._connection)

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the file."""
        self.close()

    def _page(
        self, query: Query, after: Position | None, rows: int
    ) -> tuple[list[Record], Position | None]:
        """Read one page, and where the next starts; None when this was the last."""
        sql, values = statement(query, after)
        with self._readable():
            page = self._connection.execute(sql, (*values, rows)).fetchall()
            records = [from_row(row[2:]) for row in page]
        return records, (page[-1][:2] if len(page) == rows else None)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, Unusable, TypeError, OverflowError) as error:
            raise Unreadable(explain(error, self._path)) from error


def statement(query: Query, after: Position | None) -> tuple[str, list[str | int]]:
    """Return the SQL of one page of an answer, with all values but the page's size.

    Args:
        query: What is asked.
        after: Where the page before ended.
    """
    key, order, beyond = (
        ("not_after", "ASC", ">") if query.by_expiry else ("issued_at", "DESC", "<")
    )
    conditions = dict(_conditions(query))
    # names and question marks only, no value is part of the text
    where = list(conditions)
    values: list[str | int] = list(conditions.values())
    if after is not None:
        where.append(f"({key}, id) {beyond} (?, ?)")
        values += after
    sql = (
        f"SELECT {key}, id, {', '.join(COLUMNS)} FROM certificates "  # noqa: S608
        f"WHERE {' AND '.join(where) or 'TRUE'} ORDER BY {key} {order}, id {order} LIMIT ?"
    )
    return sql, values


def _conditions(query: Query) -> Iterator[tuple[str, str | int]]:
    if query.identity is not None:
        yield "identity = ?", query.identity
    if query.serial is not None:
        yield "serial = ?", query.serial
    if query.issued_from is not None:
        yield "issued_at >= ?", to_us(query.issued_from)
    if query.expires_from is not None:
        yield "not_after >= ?", to_us(query.expires_from)
    if query.expires_until is not None:
        yield "not_after <= ?", to_us(query.expires_until)
