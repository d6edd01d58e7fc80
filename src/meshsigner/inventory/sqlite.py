"""The inventory in one SQLite file: `ports.Inventory` for a single server.

Talks to the file; leaves its tables to `schema`, the words on what went wrong
to `faults`. What it promises: rows handed to `write` are on the disk when it
returns, all or none of them, and none is ever dropped to make room but those
whose retention is over.
"""

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meshsigner.errors import RecordFailed
from meshsigner.inventory import schema
from meshsigner.inventory.columns import to_row, to_us
from meshsigner.inventory.connection import Synchronous, close_quietly, open_writer
from meshsigner.inventory.faults import Unusable, explain, free_bytes, primary_code
from meshsigner.inventory.intents import note, open_intents
from meshsigner.inventory.lock import FileLock
from meshsigner.inventory.statements import delete_expired, room, store, try_a_row
from meshsigner.model import Health, Intent, Record

DEFAULT_RETENTION = timedelta(days=30)
DEFAULT_MAX_BYTES = 10 * 1024**3  # some 6 million rows
# The port's callers wait behind a commit, and Istio's agent comes again within
# 100 to 800 ms: better to refuse soon than to hold everybody.
DEFAULT_BUSY_TIMEOUT = timedelta(milliseconds=250)

_TIDY_ROWS = 64  # rows deleted at once: a few ms with their index entries
_TIDY_S = 0.025  # the next commit waits no longer than this and one deletion
_ROOM_ROWS = 512  # rows deleted at once when the bound is met and callers wait
_ROOM_TRIES = 5  # how often a commit is tried while room can be made
_WARN_SHARE = 0.9  # of the room in use, from which on health warns
_LOOK_INTERVAL_S = 10.0  # how old the word on the room may be
# Rows in the log from which on an idle moment empties it: a little later a commit
# would have to. Each time takes some 50 ms once the file is large.
_CHECKPOINT_ROWS = 2_000
_MORE_ROOM = "raise inventory.max_bytes or shorten inventory.retention"

_Faults = (sqlite3.Error, OSError, Unusable, OverflowError, UnicodeError)


def _now() -> datetime:
    return datetime.now(UTC)


class SqliteInventory:
    """A single server's inventory; one thread at a time may use it.

    The file is opened at the first use, and anew after a failure. From then to
    `close` no other server can open it.

    Args:
        path: Database file; its directory must exist.
        synchronous: `full`: rows survive a power cut when `write` returns;
            `normal`: the newest may then be lost.
        retention: How long a row is kept after its certificate expired.
        max_bytes: Size bound of the file; its log comes on top, 64 MiB at most
            unless a reader keeps it.
        busy_timeout: How long another process's write lock is waited for.
        clock: Tells the time that retention goes by.
        lock: The file's lock, if the caller holds it and keeps it.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Synchronous = "full",
        retention: timedelta = DEFAULT_RETENTION,
        max_bytes: int = DEFAULT_MAX_BYTES,
        busy_timeout: timedelta = DEFAULT_BUSY_TIMEOUT,
        clock: Callable[[], datetime] = _now,
        lock: FileLock | None = None,
    ) -> None:
        self._path = path.resolve()
        self._synchronous = synchronous
        self._retention = retention
        self._max_bytes = max_bytes
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._lock = lock or FileLock(self._path.with_name(self._path.name + ".lock"))
        self._keeps_lock = lock is not None
        self._connection: sqlite3.Connection | None = None
        self._health = Health(name="inventory", ready=False, detail="not opened yet")
        self._looked_at_s = -math.inf
        self._rows_in_log = 0

    def write(self, records: Sequence[Record], undelivered: Sequence[str]) -> None:
        """Store rows in one commit; on return they survive a crash of the machine.

        Args:
            records: New rows.
            undelivered: Serials, stored before or among `records`, whose caller
                was gone when the answer was ready.

        Raises:
            RecordFailed: Nothing of this call was stored. After a failed sync
                of the disk that cannot be known: then these rows may be found.
        """
        rows = [to_row(record) for record in records]
        serials = json.dumps(list(undelivered)) if undelivered else ""
        with self._lend() as connection:
            self._with_room(connection, lambda: store(connection, rows, serials))
            self._rows_in_log += len(rows)
            if time.monotonic() - self._looked_at_s > _LOOK_INTERVAL_S:
                self._look(connection)

    def note(self, intents: Sequence[Intent], settled: Sequence[str]) -> None:
        """Store what a remote CA is about to be asked, and what is settled, in one commit.

        Raises:
            RecordFailed: Nothing of this call was stored.
        """
        with self._lend() as connection:
            self._with_room(connection, lambda: note(connection, intents, settled))

    def open_intents(self) -> Sequence[Intent]:
        """Return the intents without outcome, oldest first.

        Raises:
            RecordFailed: They cannot be read.
        """
        with self._lend() as connection:
            return open_intents(connection)

    def probe(self) -> None:
        """Prove that a row could be written now, then do some housekeeping.

        A row is inserted and taken back, which needs the room of a real one;
        what is then committed proves the way to the disk.

        Raises:
            RecordFailed: It could not; the text says why and what to do.
        """
        with self._lend() as connection:
            written_at = to_us(self._clock())
            self._with_room(connection, lambda: try_a_row(connection, written_at))
            self._look(connection)
        self.tidy()

    def tidy(self) -> bool:
        """Do a bounded piece of housekeeping; meant for moments when nobody waits.

        Deletes rows whose retention is over and empties the log into the file.

        Returns:
            True when there is more to do.

        Raises:
            RecordFailed: The store failed; rows are safe.
        """
        end_s = time.monotonic() + _TIDY_S
        with self._lend() as connection:
            deleted = self._delete_expired(connection, _TIDY_ROWS)
            while deleted == _TIDY_ROWS and time.monotonic() < end_s:
                deleted = self._delete_expired(connection, _TIDY_ROWS)
            if self._rows_in_log >= _CHECKPOINT_ROWS:
                # PASSIVE waits for nobody: what a reader still needs stays for later
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._rows_in_log = 0
        return deleted == _TIDY_ROWS

    def is_empty(self) -> bool:
        """Tell whether there is no row.

        Raises:
            RecordFailed: The store failed; rows are safe.
        """
        with self._lend() as connection:
            return connection.execute("SELECT 1 FROM certificates LIMIT 1").fetchone() is None

    def health(self) -> Health:
        """Say whether rows can be written and how full the store is.

        As of the last use: any thread may ask, for nothing is touched.
        """
        return self._health

    def close(self) -> None:
        """Release the store."""
        if self._connection is not None:
            close_quietly(self._connection)
            self._connection = None
        if not self._keeps_lock:
            self._lock.release()

    @contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection; a failure closes it, so that the next use starts clean."""
        try:
            yield self._connection or self._open()
        except _Faults as error:
            text = self._explain(error)
            if self._connection is not None:
                close_quietly(self._connection)
                self._connection = None
            self._health = Health(name="inventory", ready=False, detail=text)
            self._looked_at_s = -math.inf  # the next commit that passes says so
            raise RecordFailed(text) from error

    def _open(self) -> sqlite3.Connection:
        self._lock.acquire()
        self._connection = open_writer(
            self._path,
            synchronous=self._synchronous,
            busy_timeout=self._busy_timeout,
            max_bytes=self._max_bytes,
        )
        schema.migrate(self._connection)
        return self._connection

    def _with_room(self, connection: sqlite3.Connection, write: Callable[[], None]) -> None:
        """Write; at the size bound, delete rows whose retention is over and try again."""
        tries = 0
        while True:
            try:
                return write()
            except sqlite3.OperationalError as error:
                tries += 1
                is_full = primary_code(error) == sqlite3.SQLITE_FULL and tries < _ROOM_TRIES
                if not is_full or not self._delete_expired(connection, _ROOM_ROWS):
                    raise

    def _delete_expired(self, connection: sqlite3.Connection, at_most: int) -> int:
        before = to_us(self._clock() - self._retention)
        deleted = delete_expired(connection, before, at_most)
        self._rows_in_log += deleted
        return deleted

    def _explain(self, error: BaseException) -> str:
        with suppress(sqlite3.Error):
            if primary_code(error) == sqlite3.SQLITE_FULL and self._is_at_bound():
                return (
                    f"inventory {self._path}: it has reached its size bound of "
                    f"{self._max_bytes} bytes: {_MORE_ROOM}"
                )
        return explain(error, self._path)

    def _is_at_bound(self) -> bool:
        """Whether the bound leaves less room than the disk."""
        return self._connection is not None and (
            room(self._connection).left_bytes < (free_bytes(self._path) or 0)
        )

    def _look(self, connection: sqlite3.Connection) -> None:
        """Take down how full the store is, for `health`."""
        self._looked_at_s = time.monotonic()
        used_share = room(connection).used_share
        free = free_bytes(self._path)
        detail = f"{self._path} is writable, {used_share:.1%} of inventory.max_bytes in use"
        if used_share > _WARN_SHARE:
            detail += f"; WARNING: at 100 % certificates are withheld: {_MORE_ROOM}"
        if free is not None and free < (1 - _WARN_SHARE) * self._max_bytes:
            detail += f"; WARNING: only {free // 1024**2} MiB free on its disk"
        self._health = Health(name="inventory", ready=True, detail=detail)
