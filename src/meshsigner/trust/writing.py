"""Writing trust material so that no reader and no crash ever sees half of it.

One file is replaced by a rename; a set of files that belong together is
written into a directory of its own, which a symbolic link then names, as the
kubelet does with a mounted Secret. Everything is on disk before it is visible.

Source: rename(2), symlink(7); kubernetes pkg/volume/util/atomic_writer.go.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644
_DIRECTORY_MODE = 0o700
_LINK = "current"  # not ..data, which stands for a Kubernetes mount
_PREFIX = "generation-"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory against other processes; it is made when it is not there.

    The lock is advisory, and ends with the process that holds it.

    Raises:
        OSError: The directory cannot be made or opened.
    """
    directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write or replace one file.

    Args:
        path: Where it goes.
        data: All of it.
        mode: Permissions, in force before a byte is in it.

    Raises:
        OSError: It cannot be written; what was there is untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 - both are names
    finally:
        Path(name).unlink(missing_ok=True)  # it is there only when something failed
    _sync_directory(path.parent)


def swap_files(
    directory: Path, files: Mapping[str, tuple[bytes, int]], *, mode: int = _DIRECTORY_MODE
) -> None:
    """Write or replace a set of files at once; the caller holds the lock.

    Args:
        directory: Where they appear, as links into the set.
        files: Data and mode of each by its name; the same names at each swap.
        mode: Permissions of the directory that holds the set.

    Raises:
        OSError: They cannot be written; what was there is untouched.
    """
    fresh = Path(tempfile.mkdtemp(dir=directory, prefix=_PREFIX))
    with ExitStack() as failed:
        failed.callback(shutil.rmtree, fresh, ignore_errors=True)
        for name, (data, file_mode) in files.items():
            write_file(fresh / name, data, mode=file_mode)
            if not (directory / name).is_symlink():
                _point(directory / name, f"{_LINK}/{name}")
        fresh.chmod(mode)
        _point(directory / _LINK, fresh.name)  # from here on the new set is there, whole
        failed.pop_all()
    _sync_directory(directory)
    for old in directory.glob(f"{_PREFIX}*"):
        if old.name != fresh.name:
            shutil.rmtree(old)


def is_swapped(directory: Path) -> bool:
    """Tell whether a set of files was ever written there by `swap_files`."""
    return (directory / _LINK).is_symlink()


def _point(link: Path, target: str) -> None:
    """Make a symbolic link, or turn an old one, in one step."""
    temporary = link.with_name(f".{link.name}-new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
