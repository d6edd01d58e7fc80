"""Opens the inventory's SQLite file, to write or to read.

Decides the modes of the file and of the connection; the schema is `schema`'s.

Source: sqlite.org/wal.html, sqlite.org/pragma.html.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from meshsigner.inventory.faults import Unusable, primary_code

Synchronous = Literal["full", "normal"]

_PRIVATE = 0o600  # who was where and when is nobody else's business
PAGE_BYTES = 4_096  # SQLite's default
# A checkpoint in front of a caller stalls it by tens of ms. With 32 MiB of log
# between two, a row costs a quarter less CPU than with SQLite's 4 MiB, for pages
# of the random serial index are written back once instead of many times.
CHECKPOINT_PAGES = 8_192
# What a burst made longer shrinks to this at the next start of the log.
LOG_LIMIT_BYTES = 2 * CHECKPOINT_PAGES * PAGE_BYTES


def open_writer(
    database: Path,
    *,
    synchronous: Synchronous,
    busy_timeout: timedelta,
    max_bytes: int,
) -> sqlite3.Connection:
    """Open the database to write it, making an empty one when there is none.

    Args:
        database: Its path; the directory must exist.
        synchronous: `full` syncs the log at each commit, `normal` at checkpoints.
        busy_timeout: How long another process's write lock is waited for.
        max_bytes: Size bound; a page more is refused as SQLITE_FULL.

    Returns:
        A connection in autocommit mode that any one thread at a time may use.

    Raises:
        sqlite3.Error: It cannot be opened or is none of SQLite's.
        OSError: Its file cannot be made.
        Unusable: Its file system cannot keep a write-ahead log.
    """
    _make_private(database)
    connection = sqlite3.connect(
        database,
        timeout=busy_timeout.total_seconds(),
        isolation_level=None,
        check_same_thread=False,
    )
    with ExitStack() as undo:
        undo.callback(close_quietly, connection)
        _configure(connection, synchronous, max_bytes)
        undo.pop_all()
    return connection


def open_reader(database: Path, *, busy_timeout: timedelta) -> sqlite3.Connection:
    """Open the database read-only, while a server writes it or none does.

    Args:
        database: Its path.
        busy_timeout: How long a lock is waited for.

    Raises:
        sqlite3.Error: It cannot be opened or read.
    """
    try:
        return _open_read_only(database, "mode=ro", busy_timeout)
    except sqlite3.Error as error:
        is_shut = primary_code(error) in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
        if not is_shut or _has_log(database):
            raise
        # A reader who may not write in the directory cannot share a log; where
        # there is none, nobody writes, and the file alone is the whole truth.
        return _open_read_only(database, "mode=ro&immutable=1", busy_timeout)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make one commit of all that the block does, or nothing.

    Args:
        connection: In autocommit mode, no transaction open.

    Raises:
        sqlite3.Error: Something failed; nothing of the block was stored.
    """
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back unless SQLite has done so itself
        yield


def close_quietly(connection: sqlite3.Connection) -> None:
    """Close a connection that has failed; what was not committed is gone."""
    with suppress(sqlite3.Error):
        connection.close()


def _configure(connection: sqlite3.Connection, synchronous: Synchronous, max_bytes: int) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        msg = "its file system cannot keep a write-ahead log: use a local disk"
        raise Unusable(msg)
    page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
    for pragma in (
        f"synchronous = {synchronous}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {LOG_LIMIT_BYTES}",
        # 0 would mean "as before": without a bound
        f"max_page_count = {max(1, max_bytes // page_bytes)}",
        # certificates are public: deleted ones need no overwriting with zeros
        "secure_delete = OFF",
        # a tampered file must not call functions through its own schema
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _make_private(database: Path) -> None:
    # By path, never through a descriptor of our own: closing one would drop
    # the locks that SQLite holds in this process (sqlite.org/howtocorrupt.html 2.2).
    # The log and its index take over the mode of the file.
    if database.exists():
        if database.stat().st_mode & 0o777 & ~_PRIVATE:
            database.chmod(_PRIVATE)
    else:
        database.touch(_PRIVATE)


def _open_read_only(database: Path, how: str, busy_timeout: timedelta) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(database))}?{how}",
        uri=True,
        timeout=busy_timeout.total_seconds(),
        isolation_level=None,
    )
    with ExitStack() as undo:
        undo.callback(close_quietly, connection)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the file
        undo.pop_all()
    return connection


def _has_log(database: Path) -> bool:
    log = database.with_name(database.name + "-wal")
    return log.exists() and log.stat().st_size > 0
