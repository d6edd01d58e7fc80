"""Reads the inventory in PostgreSQL, from any process and any server, a standby too.

What may be asked is `query`'s, how it is shown the command line's. An answer is
read in pages, each a statement of its own: nothing is held open for somebody
who scrolls.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, Self, TypeVar

from meshsigner.inventory.columns import COLUMNS
from meshsigner.inventory.postgres_faults import FAULTS, explain
from meshsigner.inventory.postgres_schema import check_version
from meshsigner.inventory.postgres_server import PostgresServer, Session, connect
from meshsigner.inventory.query import Query, Unreadable
from meshsigner.model import Record

PAGE_ROWS = 256  # rows in memory at once: some 300 KiB
_STATEMENT_S = 30.0  # for a person who waits

T = TypeVar("T")
Position = tuple[Any, int]  # where a page ended: the ordering column and the row's id


class PostgresReader:
    """Answers queries; belongs to the thread that made it.

    Args:
        server: Where.

    Raises:
        Unreadable: It cannot be reached or read, or holds no inventory.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._runner = asyncio.Runner()
        try:
            self._session: Session = self._run(self._open())
        except Unreadable:
            self._runner.close()
            raise

    def find(self, query: Query) -> Iterator[Record]:
        """Yield the certificates that a query asks for, in its order.

        Raises:
            Unreadable: The database cannot be read, or not any more.
        """
        left = query.limit
        position: Position | None = None
        while left is None or left > 0:
            wanted = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            sql, values = statement(query, position)
            page = self._run(self._session.fetch(sql, *values, wanted))
            yield from (Record(**dict(zip(COLUMNS, row[2:], strict=True))) for row in page)
            if len(page) < wanted:
                return
            position = (page[-1][0], page[-1][1])
            left = None if left is None else left - len(page)

    def close(self) -> None:
        """Release the connection."""
        self._session.terminate()
        self._runner.close()

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the connection."""
        self.close()

    async def _open(self) -> Session:
        session = await connect(self._server, statement_s=_STATEMENT_S, read_only=True)
        try:
            await check_version(session, self._server.schema)
        except FAULTS:
            session.terminate()
            raise
        return session

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(work)
        except FAULTS as error:
            raise Unreadable(explain(error, self._server)) from error


def statement(query: Query, after: Position | None) -> tuple[str, list[Any]]:
    """Return the SQL of one page of an answer, with all values but the page's size.

    Args:
        query: What is asked.
        after: Where the page before ended.
    """
    key, order, beyond = (
        ("not_after", "ASC", ">") if query.by_expiry else ("issued_at", "DESC", "<")
    )
    where: list[str] = []
    values: list[Any] = []
    for condition, value in _conditions(query):
        values.append(value)
        where.append(f"{condition} ${len(values)}")
    if after is not None:
        values += after
        where.append(f"({key}, id) {beyond} (${len(values) - 1}, ${len(values)})")
    # names and numbers only, no value is part of the text
    sql = (
        f"SELECT {key}, id, {', '.join(COLUMNS)} FROM certificates "  # noqa: S608
        f"WHERE {' AND '.join(where) or 'TRUE'} "
        f"ORDER BY {key} {order}, id {order} LIMIT ${len(values) + 1}"
    )
    return sql, values


def _conditions(query: Query) -> Iterator[tuple[str, object]]:
    given = (
        ("identity =", query.identity),
        ("serial =", query.serial),
        ("issued_at >=", query.issued_from),
        ("not_after >=", query.expires_from),
        ("not_after <=", query.expires_until),
    )
    yield from ((condition, value) for condition, value in given if value is not None)
