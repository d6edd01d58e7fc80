"""Files of the inventory that nobody writes are looked after."""

from datetime import timedelta
from pathlib import Path

import pytest

from meshsigner.app.caretaker import Caretaker
from meshsigner.inventory.files import existing_files, lock_of, worker_file
from meshsigner.inventory.sqlite import SqliteInventory
from tests.unit.inventory.records import NOW, make_record

LONG_AGO = NOW - timedelta(days=400)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an inventory of three files, in each a row whose time is over."""
    path = tmp_path / "inventory.db"
    for file in (path, worker_file(path, 0), worker_file(path, 1)):
        store = SqliteInventory(file)
        store.write([make_record(not_after=LONG_AGO)], [])
        store.close()
    return path


def _names(path: Path) -> list[str]:
    return [file.name for file in existing_files(path)]


async def test_files_at_rest_are_tended_and_go_when_empty(path: Path) -> None:
    """A server of one process writes the named file and looks after all others."""
    await Caretaker(path, retention=timedelta(days=1)).tend_all()
    assert _names(path) == ["inventory.db"]


async def test_files_of_workers_are_left_alone(path: Path) -> None:
    """What a worker has is not touched; what nobody has is held while it is."""
    held, released = list[int](), list[int]()

    def hold(number: int) -> bool:
        held.append(number)
        return number == 1

    lock = lock_of(path)
    lock.acquire()
    caretaker = Caretaker(
        path, retention=timedelta(days=1), hold=hold, release=released.append, lock=lock
    )
    await caretaker.tend_all()
    lock.release()
    assert _names(path) == ["inventory-0.db"]
    assert (held, released) == ([0, 1], [1])


async def test_file_that_cannot_be_used_stops_nothing(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A damaged file is told, and the others are tended all the same."""
    worker_file(path, 0).write_bytes(b"no database" * 1_000)
    await Caretaker(path, retention=timedelta(days=1)).tend_all()
    assert _names(path) == ["inventory.db", "inventory-0.db"]
    assert "inventory-0.db" in "".join(capfd.readouterr())
