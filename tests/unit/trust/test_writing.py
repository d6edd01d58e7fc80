"""Tests of writing trust material whole or not at all."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from meshsigner.trust.writing import (
    PRIVATE_MODE,
    PUBLIC_MODE,
    is_swapped,
    locked,
    swap_files,
    write_file,
)


def mode_of(path: Path) -> int:
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_file_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    """A key is 0600 and a certificate 0644, also under an open or a closed umask."""
    for umask in (0o000, 0o077):
        old = os.umask(umask)
        try:
            write_file(tmp_path / "key", b"secret", mode=PRIVATE_MODE)
            write_file(tmp_path / "certificate", b"public", mode=PUBLIC_MODE)
        finally:
            os.umask(old)
        assert (mode_of(tmp_path / "key"), mode_of(tmp_path / "certificate")) == (0o600, 0o644)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """When a file cannot be put in place, what was there stays, and nothing is left over."""
    (tmp_path / "taken" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "taken", b"data", mode=PUBLIC_MODE)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_set_is_swapped_at_once(tmp_path: Path) -> None:
    """Names lead to the newest set through one link; the old set is gone."""
    assert not is_swapped(tmp_path)
    for text in (b"one", b"two"):
        swap_files(tmp_path, {"a": (text, PUBLIC_MODE), "b": (text, PRIVATE_MODE)})
        assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (text, text)
    assert is_swapped(tmp_path)
    assert (tmp_path / "a").readlink() == Path("current/a")
    assert mode_of(tmp_path / "b") == 0o600
    assert len(list(tmp_path.glob("generation-*"))) == 1


def test_failed_swap_leaves_the_old_set(tmp_path: Path) -> None:
    """When a set cannot be written in full, the old one is there, whole."""
    swap_files(tmp_path, {"a": (b"one", PUBLIC_MODE), "b": (b"one", PUBLIC_MODE)})
    with pytest.raises(FileNotFoundError):
        swap_files(tmp_path, {"a": (b"two", PUBLIC_MODE), "no/b": (b"two", PUBLIC_MODE)})
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"one", b"one")
    assert len(list(tmp_path.glob("generation-*"))) == 1


def test_lock_makes_the_directory(tmp_path: Path) -> None:
    """A directory that is not there is made for the owner alone."""
    with locked(tmp_path / "a" / "b"):
        assert mode_of(tmp_path / "a" / "b") == 0o700


def _append_slowly(directory: Path, text: str) -> None:
    with locked(directory):
        path = directory / "log"
        before = path.read_text() if path.exists() else ""
        path.write_text(before + text)


def test_lock_keeps_processes_apart(tmp_path: Path) -> None:
    """Read and write of several processes under the lock lose nothing."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_slowly, args=(tmp_path, "x")) for _ in range(4)]
    with locked(tmp_path):
        for worker in workers:
            worker.start()
        (tmp_path / "log").write_text("y")
    for worker in workers:
        worker.join(timeout=60)
    assert (tmp_path / "log").read_text() == "yxxxx"
