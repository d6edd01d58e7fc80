"""Which files make up one inventory."""

from pathlib import Path

import pytest

from meshsigner.inventory.files import (
    existing_files,
    lock_of,
    remove,
    size_bytes,
    worker_file,
    worker_files,
)
from meshsigner.inventory.lock import InUse
from meshsigner.inventory.sqlite import SqliteInventory


@pytest.mark.parametrize(
    ("name", "file"), [("inventory.db", "inventory-3.db"), ("a.b.c", "a.b-3.c"), ("x", "x-3")]
)
def test_file_of_a_worker(tmp_path: Path, name: str, file: str) -> None:
    """A worker's file stands beside the named one, its place behind the stem."""
    assert worker_file(tmp_path / name, 3) == tmp_path / file


def test_files_are_found_by_their_whole_name(tmp_path: Path) -> None:
    """Logs, locks, other inventories and numbers of another form are no files of this one."""
    names = ("inventory-0.db", "inventory-10.db", "inventory.db")
    strangers = ("inventory-0.db-wal", "inventory-1.db.lock", "inventory-01.db", "inventory-x.db")
    for name in (*names, *strangers, "other-0.db", "inventoryX0.db"):
        (tmp_path / name).touch()
    found = existing_files(tmp_path / "inventory.db")
    assert [file.name for file in found] == ["inventory.db", "inventory-0.db", "inventory-10.db"]
    assert set(worker_files(tmp_path / "inventory.db")) == {0, 10}


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """Where nothing is, nothing is found."""
    assert existing_files(tmp_path / "none" / "inventory.db") == []


def test_size(tmp_path: Path) -> None:
    """A file that is not there has no size."""
    (tmp_path / "a").write_bytes(b"12345")
    assert size_bytes(tmp_path / "a") == 5
    assert size_bytes(tmp_path / "b") == 0


def test_lock_is_that_of_the_store(database: Path, inventory: SqliteInventory) -> None:
    """Whoever holds the inventory's lock keeps a server of one process out, and the other way."""
    inventory.probe()
    with pytest.raises(InUse):
        lock_of(database).acquire()
    inventory.close()
    lock = lock_of(database)
    lock.acquire()
    lock.release()


def test_removal_takes_the_log_along(tmp_path: Path) -> None:
    """A file goes with what SQLite keeps beside it; one that is gone is no error."""
    for name in ("a.db", "a.db-wal", "a.db-shm", "a.db.lock"):
        (tmp_path / name).touch()
    remove(tmp_path / "a.db")
    remove(tmp_path / "a.db")
    assert [path.name for path in tmp_path.iterdir()] == ["a.db.lock"]
