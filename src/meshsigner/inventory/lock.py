"""One server a database: an exclusive lock beside it.

SQLite keeps two servers from damaging a file, but would let both write, each
with its own bounds, and stall each other. The lock is the kernel's (flock): a
crash releases it, and what the file then still says is ignored.
"""

import fcntl
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from meshsigner.inventory.faults import Unusable

_MAX_HOLDER_BYTES = 512


class InUse(Unusable):
    """Another process holds the lock."""


class FileLock:
    """An exclusive lock, from `acquire` until `release` or the end of the process.

    Args:
        path: Lock file; made when absent and never removed, for a removed one
            can be held twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, unless it is ours already.

        Raises:
            InUse: Another process has it; the text names that process.
            OSError: The lock file cannot be made.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with ExitStack() as undo:
            undo.callback(os.close, descriptor)
            _claim(descriptor)
            undo.pop_all()
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back, if we have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _claim(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        msg = f"{holder} uses it: stop that server, or give this one a file of its own"
        raise InUse(msg) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, _myself(), 0)


def _myself() -> bytes:
    # With the host's name: a process id of another container means nothing here.
    return f"process {os.getpid()} on {socket.gethostname()}\n".encode()


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, _MAX_HOLDER_BYTES, 0).decode(errors="replace").strip()
    return text if text.isprintable() and text else "another process"
