"""Disks and processes that misbehave, for real: full, read-only, foreign, killed."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.query import Query
from meshsigner.inventory.reading import InventoryReader
from meshsigner.inventory.sqlite import SqliteInventory
from tests.unit.inventory.records import make_record, make_records

RunOn = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]

ON_A_FULL_DISK = """
import json, sys
from pathlib import Path
from meshsigner.errors import RecordFailed
from meshsigner.inventory.query import Query
from meshsigner.inventory.reading import InventoryReader
from meshsigner.inventory.sqlite import SqliteInventory
from tests.unit.inventory.records import make_records

database, told, stored = Path(sys.argv[1]), [], set()
ballast = database.with_name("ballast")
ballast.write_bytes(bytes(600_000))
inventory = SqliteInventory(database)

def write(size=1):
    records = make_records(size)
    try:
        inventory.write(records, [])
    except RecordFailed as error:
        told.append(str(error))
        return False
    stored.update(records)
    return True

def find():
    with InventoryReader(database) as reader:
        return set(reader.find(Query()))

while len(stored) < 2_000 and write(20):
    pass
before = len(stored)
while len(stored) < 2_000 and write():
    pass
again = write()
found_when_full = find() == stored
try:
    inventory.probe()
except RecordFailed as error:
    told.append(str(error))
ballast.unlink()
inventory.probe()
print(json.dumps({
    "told": told, "before": before, "again": again, "found_when_full": found_when_full,
    "after": write(), "found": find() == stored,
}))
"""

MAY_NOT_WRITE = """
import os, sys
from pathlib import Path
from meshsigner.errors import RecordFailed
from meshsigner.inventory.sqlite import SqliteInventory
from tests.unit.inventory.records import make_records
inventory = SqliteInventory(Path(sys.argv[1]))
if sys.argv[2:] == ["as nobody"] and os.geteuid() == 0:
    os.setuid(65534)
for use in (inventory.probe, lambda: inventory.write(make_records(1), [])):
    try:
        use()
    except RecordFailed as error:
        print(error)
"""

WRITE_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from meshsigner.inventory.sqlite import SqliteInventory
from tests.unit.inventory.records import make_records
inventory = SqliteInventory(Path(sys.argv[1]))
for group in count():
    size = 1 + group * 7 % 41
    inventory.write(make_records(size, cluster=f"{group}/{size}", issuer=sys.argv[2]), [])
    print(group)
"""


def test_full_disk_withholds_and_loses_nothing(tmp_path: Path, run_on_small_disk: RunOn) -> None:
    """On a full disk groups fail whole, rows stay readable, and room is all that it takes."""
    told = json.loads(run_on_small_disk(tmp_path, ON_A_FULL_DISK, tmp_path / "inventory.db"))

    assert told["before"] > 100
    assert not told["again"]
    assert told["found_when_full"]
    assert len(told["told"]) == 4
    for text in told["told"]:
        assert "the disk is full: free space" in text or "is full: see the kernel's log" in text
        assert "KiB free on its disk" in text
    assert told["after"]
    assert told["found"]


def test_read_only_disk_withholds(
    database: Path, inventory: SqliteInventory, run_read_only: RunOn
) -> None:
    """On a disk that went read-only probe and write fail, with what to do."""
    inventory.probe()
    inventory.close()
    texts = run_read_only(database.parent, MAY_NOT_WRITE, database).splitlines()

    assert len(texts) == 2
    assert all("read-only for this process: mount the file system writable" in t for t in texts)


def test_directory_of_somebody_else_withholds(database: Path, run_code: Callable[..., str]) -> None:
    """A user who may not write in the directory is told to ask for it."""
    database.parent.chmod(0o555)
    texts = run_code(MAY_NOT_WRITE, database, "as nobody").splitlines()

    assert len(texts) == 2
    assert all("give the server's user the file and its directory" in text for text in texts)


@pytest.mark.parametrize("groups", [1, 30, 150])
def test_killed_writer_leaves_all_that_it_acknowledged(
    database: Path, start_code: Start, groups: int
) -> None:
    """After kill -9 every acknowledged group is whole, none is there in part, and it goes on."""
    writer = start_code(WRITE_FOR_EVER, database, "first")
    assert writer.stdout is not None
    acknowledged = [int(next(writer.stdout)) for _ in range(groups)]
    writer.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout]

    with InventoryReader(database) as reader:  # nobody has repaired anything yet
        found: dict[str, int] = {}
        for record in reader.find(Query()):
            found[record.cluster] = found.get(record.cluster, 0) + 1
    assert all(size == int(name.partition("/")[2]) for name, size in found.items())
    assert set(acknowledged) <= {int(name.partition("/")[0]) for name in found}
    assert len(found) <= len(acknowledged) + 1

    after = SqliteInventory(database)
    after.write([make_record()], [])  # no stale lock, no damage
    after.close()


def test_server_that_holds_the_file_is_named(database: Path, start_code: Start) -> None:
    """A second server is told the first one's process; a killed one holds nothing."""
    holder = start_code(WRITE_FOR_EVER, database, "first")
    assert holder.stdout is not None
    next(holder.stdout)
    second = SqliteInventory(database)

    with pytest.raises(RecordFailed, match=rf"process {holder.pid} on .* uses it: stop that"):
        second.probe()
    holder.kill()
    holder.wait()
    second.write(make_records(2), [])
    second.close()


def test_file_can_be_read_while_a_server_writes_it(database: Path, start_code: Start) -> None:
    """Readers see every group that was acknowledged before they asked, whole."""
    writer = start_code(WRITE_FOR_EVER, database, "first")
    assert writer.stdout is not None
    next(writer.stdout)
    with InventoryReader(database) as reader:
        for _ in range(20):
            group = int(next(writer.stdout))
            names = [record.cluster for record in reader.find(Query())]
            assert f"{group}/{1 + group * 7 % 41}" in names
