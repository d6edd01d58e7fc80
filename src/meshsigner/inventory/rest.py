"""Looks after inventory files that no worker writes: retention goes on without one.

Such a file stays behind when there are fewer workers than before, or a worker
was replaced, or a server of one process wrote it. It is read like all others;
here its rows go when their time is over, and the file with the last of them.
"""

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from meshsigner.inventory.files import remove
from meshsigner.inventory.lock import FileLock
from meshsigner.inventory.sqlite import SqliteInventory

_PIECES = 40  # of some 25 ms each


def tend(
    file: Path,
    *,
    retention: timedelta,
    clock: Callable[[], datetime],
    lock: FileLock | None = None,
) -> bool:
    """Delete rows whose retention is over, for about a second at most.

    Args:
        file: A database file at rest; the caller sees to it that no worker takes it.
        retention: How long a row is kept after its certificate expired.
        clock: Tells the time.
        lock: The file's lock, if the caller holds it; else it is taken.

    Returns:
        True when the file is no more: it held no row any longer.

    Raises:
        RecordFailed: It cannot be used; its rows are as they were.
    """
    store = SqliteInventory(file, retention=retention, clock=clock, lock=lock)
    with closing(store):
        for _ in range(_PIECES):
            if not store.tidy():
                break
        empty = store.is_empty()
    if empty:
        remove(file)
    return empty
