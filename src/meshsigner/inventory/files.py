"""Which files make up one inventory: the named one, and one for each worker beside it.

A server of one process writes `inventory.db`, worker 3 of a supervisor
`inventory-3.db`. Whatever wrote them, they are one inventory: whoever reads it
reads them all, and one server at a time has it, by the lock of the named file.

Source: docs/adr/0016.
"""

import re
from pathlib import Path

from meshsigner.inventory.lock import FileLock

_SIDE_FILES = ("", "-wal", "-shm")


def worker_file(path: Path, number: int) -> Path:
    """Return the file of a worker.

    Args:
        path: `inventory.path` of the configuration.
        number: The worker's place.
    """
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def worker_files(path: Path) -> dict[int, Path]:
    """Return the files of workers that exist, by place.

    Args:
        path: `inventory.path` of the configuration.
    """
    name = re.compile(rf"{re.escape(path.stem)}-(0|[1-9][0-9]*){re.escape(path.suffix)}")
    found = {}
    for file in path.parent.iterdir() if path.parent.is_dir() else ():
        match = name.fullmatch(file.name)
        if match:
            found[int(match[1])] = file
    return found


def existing_files(path: Path) -> list[Path]:
    """Return every file of an inventory that exists, the named one first.

    Args:
        path: `inventory.path` of the configuration.
    """
    named = [path] if path.exists() else []
    return named + [file for _, file in sorted(worker_files(path).items())]


def size_bytes(file: Path) -> int:
    """Return the size of a database file, 0 when there is none; its log is not counted."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def lock_of(file: Path) -> FileLock:
    """Return the lock beside a database file; that of the named file stands for the inventory."""
    whole = file.resolve()
    return FileLock(whole.with_name(whole.name + ".lock"))


def remove(file: Path) -> None:
    """Remove a database file that nobody has open."""
    for ending in _SIDE_FILES:
        file.with_name(file.name + ending).unlink(missing_ok=True)
