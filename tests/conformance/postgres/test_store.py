"""The store itself at a real PostgreSQL: what it keeps, what it refuses, who waits for whom."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_rest import SLICE_ROWS, tend
from meshsigner.inventory.postgres_schema import STEPS
from meshsigner.inventory.postgres_server import PostgresServer
from meshsigner.model import Intent, Record
from tests.conformance.postgres.database import Database
from tests.unit.inventory.records import NOW, make_record, make_records

Opened = Callable[..., PostgresInventory]
Stored = Callable[..., list[Record]]
LONG_AGO = NOW - timedelta(days=400)


def test_rows_are_read_as_they_were_written(inventory: PostgresInventory, stored: Stored) -> None:
    """Every field comes back, to the microsecond and to the byte, any number of rows a commit."""
    records = [make_record(issued_at=NOW + timedelta(seconds=n)) for n in range(700)]
    inventory.write(records[:1], [])
    inventory.write(records[1:], [])
    assert stored() == records[::-1]
    assert stored(serial=records[7].serial) == [records[7]]
    assert stored(limit=3) == records[:-4:-1]


def test_nobody_took_it_is_noted(inventory: PostgresInventory, stored: Stored) -> None:
    """Serials of before and of the same commit are marked; an unknown one is passed over."""
    first, second, third = make_records(3)
    inventory.write([first, second], [])
    inventory.write([third], [first.serial, third.serial, "ab"])
    inventory.write([], [second.serial])
    assert {record.delivered for record in stored()} == {False}


def test_odd_text_does_not_cost_the_others(inventory: PostgresInventory, stored: Stored) -> None:
    """A NUL or half a surrogate pair in one row is replaced, and all rows are kept."""
    plain, odd, odder = (make_record(pod_name=name) for name in ("a", "b\0c", "d\ud800"))
    inventory.write([plain, odd, odder], [])
    assert sorted(record.pod_name for record in stored()) == ["a", "b\ufffdc", "d?"]


def test_serial_of_another_certificate_is_refused(
    inventory: PostgresInventory, stored: Stored
) -> None:
    """A serial that an issuer has used stays one certificate's; the same again is no error."""
    (record,) = records = make_records(1)
    inventory.write(records, [])
    inventory.write(records, [])
    other = make_record(serial=record.serial, certificate_der=b"another")
    with pytest.raises(RecordFailed, match="another certificate of the same serial") as caught:
        inventory.write([other], [])
    assert not caught.value.may_pass
    assert stored() == records


def test_many_may_start_at_once(
    opened: Opened, server: PostgresServer, database: Database, stored: Stored
) -> None:
    """Of eight processes that find no tables one makes them; all can write."""
    stores = [opened() for _ in range(8)]
    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(lambda store: store.write(make_records(5), []), stores))
    assert len(stored()) == 40
    version = f"SELECT array_agg(version) FROM {server.schema}.schema_version"  # noqa: S608
    assert database.sql(version) == f"{{{','.join(str(n + 1) for n in range(len(STEPS)))}}}"


@pytest.mark.parametrize(
    ("change", "undo", "words"),
    [
        (
            "ALTER ROLE signer SET synchronous_commit = off",
            "ALTER ROLE signer RESET synchronous_commit",
            "synchronous_commit is off for this role: set it to on",
        ),
        (
            "ALTER ROLE signer CONNECTION LIMIT 0",
            "ALTER ROLE signer CONNECTION LIMIT -1",
            "it has no connection left",
        ),
        (
            "REVOKE CONNECT ON DATABASE meshsigner FROM public, signer",
            "GRANT CONNECT ON DATABASE meshsigner TO public, signer",
            "this user may not do that",
        ),
    ],
)
def test_unsafe_or_shut_server_is_refused_in_words(
    opened: Opened, database: Database, change: str, undo: str, words: str
) -> None:
    """What could lose rows, or lets nobody in, is told with what to do, and nothing is written."""
    database.sql(change)
    try:
        with pytest.raises(RecordFailed, match=words):
            opened().probe()
    finally:
        database.sql(undo)


def test_lock_of_another_session_is_waited_for_within_bounds(
    opened: Opened, server: PostgresServer, database: Database, stored: Stored
) -> None:
    """A commit that somebody's lock keeps waiting fails in time, and certainly wrote nothing."""
    inventory = opened(timeout_s=1.0)
    inventory.probe()
    hold = f"BEGIN; LOCK TABLE {server.schema}.certificates; SELECT pg_sleep(2); COMMIT"
    holder = threading.Thread(target=database.sql, args=(hold,))
    holder.start()
    time.sleep(0.5)
    started = time.monotonic()
    with pytest.raises(RecordFailed, match=r"another session holds a lock|did not answer in time"):
        inventory.write(make_records(1), [])
    assert time.monotonic() - started < 1.5
    holder.join()
    assert stored() == []
    inventory.write(make_records(1), [])
    assert len(stored()) == 1


def test_retention_deletes_in_slices_by_one_process(
    server: PostgresServer, database: Database, inventory: PostgresInventory, stored: Stored
) -> None:
    """Rows whose time is over go, all others stay; while one process is at it, another is not."""
    kept = make_records(10)
    inventory.write(kept + make_records(2 * SLICE_ROWS + 5, not_after=LONG_AGO), [])
    before = NOW - timedelta(days=30)
    lock = f"SELECT pg_advisory_lock(hashtextextended('{server.schema}/rest', 1297303879))"
    holder = threading.Thread(target=database.sql, args=(f"{lock}; SELECT pg_sleep(2)",))
    holder.start()
    time.sleep(0.5)
    assert asyncio.run(tend(server, before=before, patience_s=10)) is None
    holder.join()
    assert asyncio.run(tend(server, before=before, patience_s=10)) == 2 * SLICE_ROWS + 5
    assert asyncio.run(tend(server, before=before, patience_s=10)) == 0
    assert {record.serial for record in stored()} == {record.serial for record in kept}


def test_retention_ends_when_its_time_is_over(
    server: PostgresServer, inventory: PostgresInventory
) -> None:
    """What is left is for the next time."""
    inventory.write(make_records(SLICE_ROWS + 1, not_after=LONG_AGO), [])
    assert asyncio.run(tend(server, before=NOW, patience_s=0.01)) == SLICE_ROWS


def _intent(token: str, seconds: int = 0) -> Intent:
    draft = make_record(serial="", issuer="", certificate_der=b"", pod_name="odd\0name")
    return Intent(token=token, backend="aws", at=NOW + timedelta(seconds=seconds), draft=draft)


def test_intents_stay_until_they_are_settled(inventory: PostgresInventory) -> None:
    """What is noted is read back whole, oldest first, and again until its outcome is known."""
    intents = [_intent("a" * 32, 2), _intent("b" * 32, 1)]
    inventory.note(intents, [])
    assert inventory.open_intents() == intents[::-1]
    inventory.note([], ["a" * 32])
    assert inventory.open_intents() == intents[1:]


def test_intents_of_the_dead_are_taken_over_by_one(opened: Opened) -> None:
    """A process that lives keeps its intents; those of a dead one go to one other alone."""
    first, second, third = (opened() for _ in range(3))
    first.note([_intent("a" * 32)], [])
    assert second.open_intents() == []
    first.close()
    found = second.open_intents()
    assert [intent.token for intent in found] == ["a" * 32]
    assert third.open_intents() == []
    second.note([], ["a" * 32])
    assert second.open_intents() == []
