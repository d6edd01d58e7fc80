"""All files of an inventory are read as one."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from meshsigner.inventory.files import worker_file
from meshsigner.inventory.query import Query, Unreadable
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.inventory.whole import WholeInventory
from meshsigner.model import Record
from tests.unit.inventory.records import NOW, make_record


@pytest.fixture
def written(database: Path) -> list[Record]:
    """Return 30 rows that three writers hold, in the order in which they were issued."""
    records = [
        make_record(
            issued_at=NOW + timedelta(seconds=number),
            not_after=NOW + timedelta(days=1, seconds=-number * 7 % 11),
        )
        for number in range(30)
    ]
    for number, file in enumerate([database, worker_file(database, 0), worker_file(database, 4)]):
        store = SqliteInventory(file)
        store.write(records[number::3], [])
        store.close()
    return records


def test_newest_first_over_all_files(database: Path, written: list[Record]) -> None:
    """Rows of all writers come in one order, each once."""
    with WholeInventory(database) as inventory:
        assert list(inventory.find(Query())) == written[::-1]


def test_soonest_expiry_first_over_all_files(database: Path, written: list[Record]) -> None:
    """The order by expiry holds over all files as well."""
    with WholeInventory(database) as inventory:
        found = list(inventory.find(Query(expires_from=NOW)))
    assert len(found) == len(written)
    assert all(one.not_after <= other.not_after for one, other in pairwise(found))


def test_limit_counts_all_files_together(database: Path, written: list[Record]) -> None:
    """A limit bounds the answer, not each file's part of it."""
    with WholeInventory(database) as inventory:
        assert list(inventory.find(Query(limit=4))) == written[:-5:-1]


def test_serial_is_found_wherever_it_is(database: Path, written: list[Record]) -> None:
    """One certificate is found in whichever file it was written."""
    with WholeInventory(database) as inventory:
        for record in written[:3]:
            assert list(inventory.find(Query(serial=record.serial))) == [record]


def test_files_of_workers_alone(database: Path, written: list[Record]) -> None:
    """The named file need not exist: a supervisor's workers never write it."""
    database.unlink()
    with WholeInventory(database) as inventory:
        assert len(list(inventory.find(Query()))) == len(written) * 2 // 3


def test_no_file_at_all(database: Path) -> None:
    """Where no server has recorded anything, that is said."""
    with pytest.raises(Unreadable, match=r"inventory\.db: there is no such file"):
        WholeInventory(database)


@pytest.mark.usefixtures("written")
def test_one_bad_file_is_no_answer(database: Path) -> None:
    """A damaged file is told; rows are never left out in silence."""
    worker_file(database, 4).write_bytes(b"no database" * 1_000)
    with pytest.raises(Unreadable, match=r"inventory-4\.db"):
        WholeInventory(database)
