"""The store: what was written is there, what failed is not, nothing makes room but time."""

import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshsigner.errors import RecordFailed
from meshsigner.inventory.query import Query
from meshsigner.inventory.reading import InventoryReader
from meshsigner.inventory.sqlite import DEFAULT_RETENTION, SqliteInventory
from meshsigner.model import Record
from meshsigner.ports import Inventory
from tests.unit.inventory.records import NOW, any_record, make_record, make_records

MIB = 1024**2
Open = Callable[..., SqliteInventory]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now


def _all(reader: InventoryReader) -> set[Record]:
    return set(reader.find(Query()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=st.lists(any_record(), max_size=5))
def test_every_field_is_read_as_it_was_written(
    inventory: SqliteInventory, reader: InventoryReader, records: list[Record]
) -> None:
    """Whatever a record holds, a reader in another process's place finds the same."""
    inventory.write(records, [])

    for record in records:
        assert [record] == list(reader.find(Query(serial=record.serial)))


def test_store_is_an_inventory(inventory: SqliteInventory) -> None:
    """The store implements the port."""
    port: Inventory = inventory

    port.write([], [])
    port.probe()
    port.close()


def test_undelivered_is_noted(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """A serial that nobody took is found as such, with no new row or with some."""
    first, second, third = make_records(3)
    inventory.write([first, second], [])
    inventory.write([], [first.serial])
    inventory.write([third], [third.serial])
    delivered = {record.serial: record.delivered for record in reader.find(Query())}

    assert {first.serial: False, second.serial: True, third.serial: False} == delivered


def test_serial_is_unique_per_issuer(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """The same serial of the same issuer is refused with its whole group; of another it is not."""
    first, other = make_record(), make_record()
    twice = make_record(serial=first.serial)
    elsewhere = make_record(serial=first.serial, issuer="cd" * 32)
    inventory.write([first], [])

    with pytest.raises(RecordFailed, match="same serial and issuer is recorded already"):
        inventory.write([other, twice], [first.serial])
    inventory.write([elsewhere], [])
    assert {first, elsewhere} == _all(reader)


def test_row_that_no_database_takes_fails_as_documented(
    inventory: SqliteInventory, reader: InventoryReader
) -> None:
    """Values beyond the database's range withhold their group, unquoted; the next goes on."""
    for bad in (make_record(credential_id="tok\ud800"), make_record(policy_generation=2**63)):
        with pytest.raises(RecordFailed, match="a row cannot be stored") as caught:
            inventory.write([make_record(), bad], [])
        assert "tok" not in str(caught.value)
        assert caught.value.__cause__ is not None
    good = make_record()
    inventory.write([good], [])
    assert {good} == _all(reader)


def test_failed_row_is_the_reason_of_the_failure(inventory: SqliteInventory) -> None:
    """The error holds what SQLite said, for the log."""
    record = make_record()
    with pytest.raises(RecordFailed) as caught:
        inventory.write([record, record], [])

    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)


def test_store_is_made_in_one_thread_and_used_in_another(inventory: SqliteInventory) -> None:
    """The recorder's thread uses what the main thread opened, and may be followed by a third."""
    inventory.probe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            inventory.write(make_records(3), [])
        except RecordFailed as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert failed == []


def test_second_server_on_one_file_is_refused(opened: Open) -> None:
    """Until the first closes, a second neither writes nor is ready, and says who is there."""
    first, second = opened(), opened()
    first.probe()

    with pytest.raises(RecordFailed, match=r"process \d+ on .* uses it: stop that server"):
        second.write(make_records(1), [])
    assert "uses it" in second.health().detail
    assert not second.health().ready
    first.close()
    second.probe()
    assert second.health().ready


def test_second_name_of_the_file_is_the_same_file(opened: Open, database: Path) -> None:
    """A symbolic link does not lead around the lock."""
    link = database.with_name("link.db")
    link.symlink_to(database)
    opened().probe()

    with pytest.raises(RecordFailed, match="uses it"):
        SqliteInventory(link).probe()


def test_rows_outlive_close(opened: Open, database: Path) -> None:
    """A store that was closed well is whole in its one file."""
    record = make_record()
    first = opened()
    first.write([record], [])
    first.close()
    assert not database.with_name("inventory.db-wal").exists()

    with InventoryReader(database) as reader:
        assert {record} == _all(reader)


def test_rows_leave_when_their_retention_is_over(opened: Open, database: Path) -> None:
    """A row stays until its certificate has been expired for the whole retention."""
    clock = Clock()
    inventory = opened(clock=clock, retention=timedelta(days=30))
    expired = make_record(not_after=NOW)
    valid = make_record(not_after=NOW + timedelta(seconds=1))
    inventory.write([expired, valid], [])
    with InventoryReader(database) as reader:
        clock.now = NOW + timedelta(days=30)
        assert not inventory.tidy()
        assert {expired, valid} == _all(reader)

        clock.now += timedelta(microseconds=1)
        assert not inventory.tidy()
        assert {valid} == _all(reader)


def test_probe_tidies(reader: InventoryReader, inventory: SqliteInventory) -> None:
    """Whoever only probes and writes keeps the retention, too."""
    inventory.write([make_record(not_after=datetime.now(NOW.tzinfo) - timedelta(days=31))], [])
    inventory.write([make_record(not_after=datetime.now(NOW.tzinfo) - timedelta(days=29))], [])
    inventory.probe()

    assert timedelta(days=30) == DEFAULT_RETENTION
    assert len(_all(reader)) == 1


def test_housekeeping_is_bounded_in_time(opened: Open, database: Path) -> None:
    """Much to delete is deleted in pieces, between which commits find their way."""
    clock = Clock()
    inventory = opened(clock=clock, synchronous="normal")
    inventory.write(make_records(20_000), [])
    clock.now += timedelta(days=60)
    pieces = 1
    while inventory.tidy():
        pieces += 1
        inventory.write(make_records(1, not_after=clock.now), [])

    assert pieces > 2
    with InventoryReader(database) as reader:
        assert pieces - 1 == len(_all(reader))


def test_log_is_emptied_in_idle_moments(inventory: SqliteInventory, database: Path) -> None:
    """The log does not grow with what is written, as long as there are idle moments."""
    log = database.with_name("inventory.db-wal")

    def write_and_tidy() -> int:
        for _ in range(5):
            inventory.write(make_records(500), [])
        inventory.tidy()
        return log.stat().st_size

    sizes = [write_and_tidy() for _ in range(4)]
    assert sizes[-1] < 1.5 * sizes[0]
    assert database.stat().st_size > 1 * MIB


def _fill(inventory: SqliteInventory, group: int = 50) -> tuple[list[Record], RecordFailed]:
    """Write until the store refuses."""
    written: list[Record] = []
    for _ in range(5_000 // group):
        records = make_records(group)
        try:
            inventory.write(records, [])
        except RecordFailed as error:
            return written, error
        written += records
    pytest.fail("the store never refused")


def test_size_bound_withholds_and_keeps_every_row(opened: Open, database: Path) -> None:
    """At its bound the store refuses whole groups, says what to do, and has dropped nothing."""
    inventory = opened(max_bytes=MIB, clock=Clock())
    written, error = _fill(inventory)

    assert "has reached its size bound of 1048576 bytes: raise inventory.max_bytes" in str(error)
    assert len(written) > 300
    assert not inventory.health().ready
    assert str(error) == inventory.health().detail
    with InventoryReader(database) as reader:
        assert set(written) == _all(reader)
    inventory.close()
    assert database.stat().st_size <= MIB


def test_probe_fails_at_the_size_bound(opened: Open) -> None:
    """A store in which no row has room is not ready, though small writes still pass."""
    inventory = opened(max_bytes=MIB, clock=Clock(), synchronous="normal")
    _fill(inventory, group=1)

    with pytest.raises(RecordFailed, match="size bound"):
        inventory.probe()


def test_expired_rows_make_room_first(opened: Open, database: Path) -> None:
    """At the bound rows whose retention is over go, at once, and none of the others."""
    clock = Clock()
    inventory = opened(max_bytes=MIB, clock=clock)
    _fill(inventory)
    clock.now += timedelta(days=40)  # all of them expired 39 days ago
    late = make_records(40, not_after=clock.now)
    inventory.write(late, [])
    inventory.probe()

    assert inventory.health().ready
    with InventoryReader(database) as reader:
        assert set(late) <= _all(reader)


def test_health_warns_before_the_bound(opened: Open) -> None:
    """Ten percent before certificates are withheld, health says so while all still works."""
    inventory = opened(max_bytes=2 * MIB, clock=Clock())
    inventory.write(make_records(100), [])
    inventory.probe()
    early = inventory.health()
    _fill(inventory)
    inventory.close()
    inventory = opened(max_bytes=int(2.15 * MIB), clock=Clock())
    inventory.probe()
    late = inventory.health()

    assert early.ready
    assert re.search(r"writable, \d+\.\d% of inventory.max_bytes in use$", early.detail)
    assert late.ready
    assert "WARNING: at 100 % certificates are withheld: raise inventory.max_bytes" in late.detail


def test_health_warns_of_a_small_disk(opened: Open) -> None:
    """A disk that has no room for the bound is told, before it is full."""
    inventory = opened(max_bytes=2**60)
    inventory.probe()

    assert inventory.health().ready
    assert re.search(r"WARNING: only \d+ MiB free on its disk", inventory.health().detail)


def test_health_before_the_first_use_is_not_ready(inventory: SqliteInventory) -> None:
    """What was never tried is not said to work."""
    assert (inventory.health().name, inventory.health().ready) == ("inventory", False)


def test_commit_that_passes_ends_the_alarm(inventory: SqliteInventory) -> None:
    """After a failure the next commit that passes makes the store ready again."""
    record = make_record()
    with pytest.raises(RecordFailed):
        inventory.write([record, record], [])
    assert not inventory.health().ready
    inventory.write([record], [])

    assert inventory.health().ready


def test_write_lock_of_another_is_waited_for_shortly(opened: Open, database: Path) -> None:
    """While another holds the write lock nothing is stored; once it is gone, all goes on."""
    inventory = opened(busy_timeout=timedelta(milliseconds=50))
    inventory.probe()
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordFailed, match="another process holds its write lock"):
            inventory.write(make_records(1), [])
        with pytest.raises(RecordFailed, match="another process holds its write lock"):
            inventory.probe()
        other.execute("ROLLBACK")
    record = make_record()
    inventory.write([record], [])
    with InventoryReader(database) as reader:
        assert {record} == _all(reader)


def test_directory_must_exist(tmp_path: Path) -> None:
    """A path that leads nowhere is told, with what to do."""
    inventory = SqliteInventory(tmp_path / "absent" / "inventory.db")

    with pytest.raises(RecordFailed, match="its directory must exist"):
        inventory.probe()


def test_file_that_is_no_database_is_kept(opened: Open, database: Path) -> None:
    """Somebody else's file is refused, not overwritten; once moved away, all goes on."""
    database.write_text("minutes of a meeting, with more than a header's worth of text\n" * 9)
    inventory = opened()

    with pytest.raises(RecordFailed, match="no SQLite database: name another file"):
        inventory.write(make_records(1), [])
    assert database.read_text().startswith("minutes")
    database.unlink()
    inventory.probe()


def test_damaged_file_withholds_and_says_how_to_save_it(opened: Open, database: Path) -> None:
    """A database with foreign pages inside fails its probe with the way to recover."""
    inventory = opened()
    inventory.write(make_records(200), [])
    inventory.close()
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xaa" * (len(content) - 4096)  # all pages but the first
    database.write_bytes(content)

    with pytest.raises(RecordFailed, match=r"it is damaged: stop the server, keep a copy"):
        inventory.probe()
    with pytest.raises(RecordFailed, match=r"\.recover"):
        inventory.write(make_records(1), [])
