"""Unix sockets: taking a path without taking it from anybody, with the mode that is meant.

Decides when a path is free (nobody answers there), and which directory keeps
a workload's socket from others. What is served on a socket is others' matter.

Source: istio pkg/uds/listener.go (parent 0750, socket 0666), pkg/istio-agent/agent.go
checkSocket; unix(7).
"""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import TypeVar

from meshsigner.errors import ConfigurationError

DIRECTORY_MODE = 0o750
OPEN_MODE = 0o666  # Envoy runs as another user, istio's as 1337
PRIVATE_MODE = 0o600
MAX_PATH_BYTES = 107  # sockaddr_un.sun_path with its closing zero, unix(7)
_ANSWER_S = 1.0  # as long as istio-agent waits for one

_OTHERS_ENTER = stat.S_IXOTH
_GROUP_WRITES = stat.S_IWGRP | stat.S_IWOTH

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A path that is ours.

    Attributes:
        path: Where the socket is.
        inode: Tells it from one that took its place.
    """

    path: Path
    inode: int

    def release(self) -> None:
        """Remove the socket, if it is still ours."""
        try:
            if self.path.lstat().st_ino == self.inode:
                self.path.unlink()
        except FileNotFoundError:
            return


def take(path: Path, mode: int, bind: Callable[[Path], T]) -> tuple[T, Taken]:
    """Bind a socket; its directory is made when it is not there.

    Args:
        path: Where; a socket there at which nobody answers is removed.
        mode: Permissions, in force from its first moment.
        bind: Binds and listens.

    Returns:
        What `bind` returned, and the path to release in the end.

    Raises:
        ConfigurationError: The path is too long, no socket, somebody's, or
            cannot be written.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigurationError(
            f"{path}: a socket's path has at most {MAX_PATH_BYTES} bytes; choose a shorter one"
        )
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        with _locked(path.parent):
            _clear(path)
            with _umask(0o777 & ~mode):
                bound = bind(path)
            return bound, Taken(path=path, inode=path.lstat().st_ino)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {path}: {error.strerror}") from error


def listening_socket(path: Path) -> socket.socket:
    """Bind a listening stream socket; to be called through `take`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def answers(path: Path) -> bool:
    """Tell whether somebody listens at a socket.

    Raises:
        OSError: It cannot be found out, for lack of permission for instance.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ANSWER_S)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (TimeoutError, BlockingIOError):
            return True  # somebody listens, with a full queue
    return True


def _clear(path: Path) -> None:
    """Remove what a process that ended badly left behind; the directory is locked."""
    try:
        found = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found):
        raise ConfigurationError(f"{path} is no socket; remove it, or choose another path")
    if answers(path):
        raise ConfigurationError(f"another process answers at {path}; stop it first")
    path.unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep two processes that start at once from taking each other's socket for a stale one."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        flock(handle, LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Set the process' umask for a moment; what another thread makes meanwhile is more private."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def is_open_to_all(directory: Path) -> bool:
    """Tell whether every user may enter a directory that is there."""
    return directory.is_dir() and bool(directory.stat().st_mode & _OTHERS_ENTER)


def make_own(directory: Path) -> None:
    """Make a directory that only this process' user enters, or prove that the one there is such.

    Raises:
        ConfigurationError: Others may enter it, or it cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise ConfigurationError(f"cannot make {directory}: {error.strerror}") from error
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or mode & 0o077:
        raise ConfigurationError(
            f"{directory} must be a directory of user {os.geteuid()} alone (mode 0700); it has "
            f"user {found.st_uid} and mode {mode:04o}"
        )


def make_private(directory: Path, group: int) -> None:
    """Make a directory that only one group enters, or prove that the one there is such.

    Args:
        directory: Holds the socket of one workload.
        group: Numeric id of the only group that may enter.

    Raises:
        ConfigurationError: Others may enter it or change what is in it, or it
            cannot be made.
    """
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            os.chown(directory, -1, group)
            directory.chmod(DIRECTORY_MODE)
        problems = list(_faults(directory, group))
    except OSError as error:
        raise ConfigurationError(
            f"cannot keep {directory} for group {group}: {error.strerror}"
        ) from error
    if problems:
        raise ConfigurationError(*problems)


def _faults(directory: Path, group: int) -> Iterator[str]:
    """Name everything that lets others at the socket in a directory."""
    found = directory.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield f"{directory} is no directory of its own; name one, not a link"
        return
    if found.st_uid not in {0, os.geteuid()}:
        yield f"{directory} belongs to user {found.st_uid}, who could replace the socket; chown it"
    if found.st_gid != group:
        yield f"{directory} belongs to group {found.st_gid}, expected {group}: chgrp {group} it"
    if mode & stat.S_IRWXO or mode & _GROUP_WRITES:
        yield (
            f"{directory} has mode {mode:04o}: others could enter it, or its group replace the "
            f"socket in it; chmod {DIRECTORY_MODE:04o} it"
        )
    for parent in directory.absolute().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield f"every user may write into {parent}, and so replace {directory}; chmod it"
