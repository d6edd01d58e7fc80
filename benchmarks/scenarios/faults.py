"""What is done to a server on purpose while a load is on: workers killed, its store stalled."""

import os
import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.scenarios.processes import command_line, family, started
from benchmarks.scenarios.subject import Running

_WORKER = "meshsigner.workers.worker"
_LOCK_S = 5.0


def workers(running: Running) -> list[int]:
    """Return the processes of a server's workers, the eldest first."""
    if running.pid is None:
        return []
    return sorted((pid for pid in family(running.pid) if _is_worker(pid)), key=started)


def kill_youngest_worker(running: Running) -> None:
    """End the worker that was started last, as the kernel does when memory is short."""
    found = workers(running)
    if found:
        os.kill(found[-1], signal.SIGKILL)


def stall_store(directory: Path, seconds: float) -> None:
    """Hold the write locks of all SQLite files of a directory, as a stuck disk would.

    Args:
        directory: Where the inventory's files are.
        seconds: How long.

    Raises:
        sqlite3.OperationalError: A lock was not to be had.
    """
    with ExitStack() as locks:
        for file in sorted(directory.glob("inventory*.db")):
            connection = sqlite3.connect(file, timeout=_LOCK_S, isolation_level=None)
            locks.enter_context(closing(connection))  # closing rolls back
            connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)


def _is_worker(pid: int) -> bool:
    try:
        return _WORKER in command_line(pid)
    except OSError:
        return False
