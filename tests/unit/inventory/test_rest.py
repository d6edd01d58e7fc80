"""Files that no worker writes: retention goes on, and an empty one goes."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.files import lock_of
from meshsigner.inventory.query import Query
from meshsigner.inventory.reading import InventoryReader
from meshsigner.inventory.rest import tend
from meshsigner.inventory.sqlite import SqliteInventory
from tests.unit.inventory.records import NOW, make_record, make_records

RETENTION = timedelta(days=30)


def _later() -> datetime:
    return NOW + RETENTION + timedelta(hours=1)


@pytest.fixture
def at_rest(database: Path) -> Path:
    """Return a file with 700 rows whose retention is over, and one that is wanted still."""
    store = SqliteInventory(database)
    expired = make_records(700, not_after=NOW)
    store.write([*expired, make_record(not_after=NOW + RETENTION)], [])
    store.close()
    return database


def test_retention_goes_on(at_rest: Path) -> None:
    """Rows whose time is over go, the others stay, and so does the file."""
    assert not tend(at_rest, retention=RETENTION, clock=_later)
    with InventoryReader(at_rest) as reader:
        assert [record.not_after for record in reader.find(Query())] == [NOW + RETENTION]


def test_nothing_is_deleted_before_its_time(at_rest: Path) -> None:
    """A row whose retention is not over stays."""
    assert not tend(at_rest, retention=RETENTION, clock=lambda: NOW + timedelta(days=1))
    with InventoryReader(at_rest) as reader:
        assert len(list(reader.find(Query()))) == 701


def test_empty_file_goes(at_rest: Path) -> None:
    """With its last row the file goes, and what SQLite keeps beside it; the lock file stays."""
    assert tend(at_rest, retention=timedelta(0), clock=lambda: NOW + timedelta(days=99))
    assert [path.name for path in at_rest.parent.iterdir()] == ["inventory.db.lock"]


def test_lock_that_the_caller_holds_is_kept(at_rest: Path) -> None:
    """A supervisor that holds the inventory's lock tends the named file under it."""
    lock = lock_of(at_rest)
    lock.acquire()
    tend(at_rest, retention=RETENTION, clock=_later, lock=lock)
    with pytest.raises(RecordFailed, match="uses it"):
        tend(at_rest, retention=RETENTION, clock=_later)
    lock.release()


def test_file_in_use_is_left_alone(at_rest: Path) -> None:
    """A file that somebody writes is not touched."""
    store = SqliteInventory(at_rest)
    store.probe()
    with pytest.raises(RecordFailed, match="uses it"):
        tend(at_rest, retention=timedelta(0), clock=_later)
    store.close()
    assert at_rest.exists()
