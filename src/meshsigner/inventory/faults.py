"""What a database's error means to the person who must act on it.

Decides the words only; whether certificates are withheld is the store's matter.
"""

import errno
import os
import sqlite3
from pathlib import Path


class Unusable(Exception):
    """A file cannot be used as it is; the text says why and what to do."""


_PRIMARY_CODE = 0xFF  # the rest is the extended part; sqlite.org/rescode.html

_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: free space on it or move the database",
    sqlite3.SQLITE_IOERR: "the disk failed or is full: see the kernel's log and free space",
    sqlite3.SQLITE_READONLY: "it is read-only for this process: mount the file system writable "
    "and give the server's user the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: its directory must exist and this process "
    "must be allowed to use it",
    sqlite3.SQLITE_PERM: "this process may not use it: give its user the file",
    sqlite3.SQLITE_BUSY: "another process holds its write lock: end whatever has it open, "
    "for example a backup or an sqlite3 shell",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop the server, keep a copy, and restore a backup "
    "or save what can be read with sqlite3's .recover",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: name another file or move this one away",
    sqlite3.SQLITE_CONSTRAINT: "a certificate of the same serial and issuer is recorded already",
    sqlite3.SQLITE_TOOBIG: "a value is too large for it",
}

_CODE_OF_ERRNO = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EACCES: sqlite3.SQLITE_READONLY,
    errno.EPERM: sqlite3.SQLITE_READONLY,
    errno.ENOENT: sqlite3.SQLITE_CANTOPEN,
    errno.ENOTDIR: sqlite3.SQLITE_CANTOPEN,
}


def primary_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code of an error, None when it has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & _PRIMARY_CODE if isinstance(code, int) else None


def explain(error: BaseException, database: Path) -> str:
    """Say which database failed, how, and what to do.

    Args:
        error: What was raised. Only errors of SQLite, of the operating system
            and our own are quoted: the text of another may hold a row's content.
        database: Its path.
    """
    number = error.errno if isinstance(error, OSError) else None
    code = _CODE_OF_ERRNO.get(number or 0, primary_code(error))
    advice = _ADVICE.get(code or 0)
    if advice:
        return f"inventory {database}: {advice} ({error}{_free_space(database)})"
    if isinstance(error, sqlite3.Error | OSError | Unusable):
        return f"inventory {database}: {error}"
    return f"inventory {database}: a row cannot be stored ({type(error).__name__})"


def free_bytes(database: Path) -> int | None:
    """Return the free space of the database's disk in bytes, None when it cannot be told."""
    try:
        disk = os.statvfs(database.parent)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _free_space(database: Path) -> str:
    free = free_bytes(database)
    return "" if free is None else f"; {free // 1024} KiB free on its disk"
