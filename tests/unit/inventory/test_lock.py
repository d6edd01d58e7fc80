"""The lock: one holder, named to all others, gone with its process."""

import os
import re
import stat
from pathlib import Path

import pytest

from meshsigner.inventory.lock import FileLock, InUse


def test_second_holder_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    """The text names the holding process and what to do."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()

    with pytest.raises(InUse, match=rf"process {os.getpid()} on .* uses it: stop that server"):
        second.acquire()


def test_lock_that_was_given_back_can_be_taken(tmp_path: Path) -> None:
    """Release lets the next one in, who is then named instead."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire()
    first.release()
    second.acquire()

    with pytest.raises(InUse):
        first.acquire()


def test_taking_and_giving_back_twice_changes_nothing(tmp_path: Path) -> None:
    """The holder may ask again, and release what it does not hold."""
    lock = FileLock(tmp_path / "lock")
    lock.release()
    lock.acquire()
    lock.acquire()
    lock.release()
    lock.release()

    FileLock(tmp_path / "lock").acquire()


def test_what_a_dead_holder_left_means_nothing(tmp_path: Path) -> None:
    """A file that still names a process is no lock: the kernel's word counts."""
    path = tmp_path / "lock"
    path.write_text("process 1 on elsewhere, which wrote a much longer line than the next\n")
    FileLock(path).acquire()

    assert re.fullmatch(rf"process {os.getpid()} on \S+\n", path.read_text())


def test_holder_that_cannot_be_told_is_another_process(tmp_path: Path) -> None:
    """Whatever stands in the file, the text stays one readable line."""
    path = tmp_path / "lock"
    first = FileLock(path)
    first.acquire()
    path.write_bytes(b"\x1b[2J\xff")

    with pytest.raises(InUse, match=r"^another process uses it"):
        FileLock(path).acquire()


def test_lock_file_is_private(tmp_path: Path) -> None:
    """Nobody but its owner can read, or hold, the lock."""
    FileLock(tmp_path / "lock").acquire()

    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_place_that_cannot_hold_a_lock_is_an_error(tmp_path: Path) -> None:
    """A missing directory is told as the system tells it."""
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "absent" / "lock").acquire()
