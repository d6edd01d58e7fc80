"""Reading: what is asked is found, in order, a page at a time, by an index."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshsigner.inventory import schema
from meshsigner.inventory.query import Query, Unreadable
from meshsigner.inventory.reading import PAGE_ROWS, InventoryReader, statement
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Record
from tests.unit.inventory.records import NOW, make_record, make_records

HOUR = timedelta(hours=1)


def _serials(reader: InventoryReader, query: Query) -> list[str]:
    return [record.serial for record in reader.find(query)]


def _issued(moments: list[int]) -> list[Record]:
    return [make_record(issued_at=NOW + moment * HOUR) for moment in moments]


def test_newest_come_first(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """The order is that of issuing; of one moment the row recorded last comes first."""
    a, b, c, d = records = _issued([2, 1, 3, 2])
    inventory.write(records, [])

    assert [c.serial, d.serial, a.serial, b.serial] == _serials(reader, Query())


def test_serial_finds_all_issuers(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """A serial number is unique per issuer only: each is found."""
    first, other = make_records(2)
    second = replace(first, issuer="cd" * 32)
    inventory.write([first, other, second], [])

    assert {first, second} == set(reader.find(Query(serial=first.serial)))


def test_identity_is_found_whole(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """An identity is no prefix, no pattern and knows case."""
    names = ["spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/bb", "spiffe://td/ns/a/sa/B"]
    records = [make_record(identity=name) for name in names]
    inventory.write(records, [])

    assert [records[0]] == list(reader.find(Query(identity=names[0])))
    assert _serials(reader, Query(identity="spiffe://td/ns/a/sa/_")) == []


def test_bounds_of_time_are_included(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """What was issued, or expires, at the very moment asked for belongs to the answer."""
    records = _issued([1, 2, 3])
    inventory.write(records, [])
    asked = Query(issued_from=NOW + 2 * HOUR)
    assert [records[2].serial, records[1].serial] == _serials(reader, asked)

    ends = [make_record(not_after=NOW + hours * HOUR) for hours in (30, 10, 20)]
    inventory.write(ends, [])
    asked = Query(expires_from=NOW + 10 * HOUR, expires_until=NOW + 20 * HOUR)
    assert [ends[1].serial, ends[2].serial] == _serials(reader, asked)


def test_what_expires_soonest_comes_first(
    inventory: SqliteInventory, reader: InventoryReader
) -> None:
    """Asked for what expires, the answer is in that order, and of one moment as recorded."""
    a, b, c = records = [make_record(not_after=NOW + hours * HOUR) for hours in (2, 1, 2)]
    inventory.write(records, [])

    assert [b.serial, a.serial, c.serial] == _serials(reader, Query(expires_from=NOW))


def test_all_conditions_must_hold(inventory: SqliteInventory, reader: InventoryReader) -> None:
    """Several conditions narrow the answer."""
    wanted = make_record(identity="spiffe://td/a", issued_at=NOW + HOUR)
    older = make_record(identity="spiffe://td/a", issued_at=NOW)
    other = make_record(identity="spiffe://td/b", issued_at=NOW + HOUR)
    inventory.write([older, wanted, other], [])
    asked = Query(
        identity="spiffe://td/a",
        serial=wanted.serial,
        issued_from=NOW + HOUR,
        expires_from=wanted.not_after,
        expires_until=wanted.not_after,
    )

    assert [wanted] == list(reader.find(asked))
    assert _serials(reader, replace(asked, serial=older.serial)) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    hours=st.lists(st.integers(0, 3), max_size=12),
    asked=st.builds(
        Query,
        issued_from=st.none() | st.integers(0, 3).map(lambda hour: NOW + hour * HOUR),
        expires_from=st.none() | st.integers(0, 3).map(lambda hour: NOW + hour * HOUR),
        expires_until=st.none() | st.integers(0, 3).map(lambda hour: NOW + hour * HOUR),
        limit=st.none() | st.integers(0, 14),
    ),
)
def test_pages_are_one_answer(
    inventory: SqliteInventory,
    reader: InventoryReader,
    monkeypatch: pytest.MonkeyPatch,
    hours: list[int],
    asked: Query,
) -> None:
    """Whatever the page's size, an answer is complete, in order, and nothing comes twice."""
    identity = make_record().serial  # one of its own for each example
    records = [
        make_record(identity=identity, issued_at=NOW + h * HOUR, not_after=NOW + (3 - h) * HOUR)
        for h in hours
    ]
    inventory.write(records, [])
    asked = replace(asked, identity=identity)
    expected = [record.serial for record in _by_hand(records, asked)]
    for rows in (1, 2, 3, PAGE_ROWS):
        monkeypatch.setattr("meshsigner.inventory.reading.PAGE_ROWS", rows)
        assert expected == _serials(reader, asked)


def _by_hand(records: list[Record], asked: Query) -> list[Record]:
    """Answer a query the plain way; records stand in the order of writing."""
    chosen = [
        record
        for record in records
        if (asked.issued_from is None or record.issued_at >= asked.issued_from)
        and (asked.expires_from is None or record.not_after >= asked.expires_from)
        and (asked.expires_until is None or record.not_after <= asked.expires_until)
    ]
    if asked.by_expiry:
        chosen.sort(key=lambda record: record.not_after)
    else:
        chosen.reverse()
        chosen.sort(key=lambda record: record.issued_at, reverse=True)
    return chosen[: asked.limit]


def test_answer_is_read_as_it_is_consumed(
    inventory: SqliteInventory, reader: InventoryReader
) -> None:
    """Only a page is in memory; between two pages the writer is free to empty its log."""
    inventory.write(make_records(2 * PAGE_ROWS + 1), [])
    answer = reader.find(Query())
    assert len(list(islice(answer, PAGE_ROWS))) == PAGE_ROWS
    with closing(sqlite3.connect(reader._path)) as other:
        busy, in_log, moved = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert (busy, in_log, moved) == (0, 0, 0)
    assert len(list(answer)) == PAGE_ROWS + 1


def test_rows_recorded_meanwhile_do_not_disturb(
    inventory: SqliteInventory, reader: InventoryReader
) -> None:
    """New rows are newer than all that is still to come: nothing is skipped or told twice."""
    old = make_records(PAGE_ROWS + 5)
    inventory.write(old, [])
    answer = reader.find(Query())
    first = next(answer)
    inventory.write(make_records(3, issued_at=NOW + HOUR), [])

    assert {record.serial for record in old} == {first.serial, *(r.serial for r in answer)}


ASKED = {
    "identity": (Query(identity="spiffe://td/a"), "certificates_identity"),
    "serial": (Query(serial="af"), "certificates_serial"),
    "issued_from": (Query(issued_from=NOW), "certificates_issued_at"),
    "expires_from": (Query(expires_from=NOW), "certificates_not_after"),
    "expires_until": (Query(expires_until=NOW), "certificates_not_after"),
}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("after", [None, (1, 1)])
def test_each_question_has_an_index(
    reader: InventoryReader, name: str, after: tuple[int, int] | None
) -> None:
    """Each condition alone searches its index, and its order needs no sorting of much."""
    query, index = ASKED[name]
    plan = _plan(reader, query, after)

    assert re.match(rf"SEARCH certificates USING INDEX {index} \(", plan[0]), plan
    assert len(plan) == 1 or name == "serial"  # there are as many as issuers


@pytest.mark.parametrize("after", [None, (1, 1)])
def test_all_rows_come_by_index(reader: InventoryReader, after: tuple[int, int] | None) -> None:
    """The whole inventory, newest first, is read in the order of an index."""
    plan = _plan(reader, Query(), after)

    assert len(plan) == 1
    assert "USING INDEX certificates_issued_at" in plan[0]


@given(st.sets(st.sampled_from(sorted(ASKED)), min_size=2), st.sampled_from([None, (1, 1)]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_conditions_together_never_look_through_the_table(
    reader: InventoryReader, names: set[str], after: tuple[int, int] | None
) -> None:
    """Any mixture searches one of the indexes."""
    query = replace(Query(), **{name: getattr(ASKED[name][0], name) for name in names})
    plan = _plan(reader, query, after)

    assert plan[0].startswith("SEARCH certificates USING INDEX")


def _plan(reader: InventoryReader, query: Query, after: tuple[int, int] | None) -> list[str]:
    sql, values = statement(query, after)
    rows = reader._connection.execute(f"EXPLAIN QUERY PLAN {sql}", (*values, PAGE_ROWS))
    return [row[3] for row in rows]


def test_absent_file_is_told_and_not_made(database: Path) -> None:
    """A path without a file is an error that names it."""
    with pytest.raises(Unreadable, match=f"{re.escape(str(database))}: there is no such file"):
        InventoryReader(database)
    assert not database.exists()


def test_file_of_another_program_is_told(database: Path) -> None:
    """Somebody else's database is not searched."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE songs (title)")

    with pytest.raises(Unreadable, match="another program"):
        InventoryReader(database)


def test_older_file_waits_for_its_server(database: Path) -> None:
    """An empty file, which no server has migrated yet, is told as such."""
    database.touch()

    with pytest.raises(Unreadable, match=r"schema version 0.*start the server once"):
        InventoryReader(database)


def test_damage_found_while_reading_is_told(
    opened: Callable[..., SqliteInventory], database: Path
) -> None:
    """A broken page ends the answer with an error, never with fewer rows."""
    inventory = opened()
    inventory.write(make_records(100), [])
    inventory.close()
    content = bytearray(database.read_bytes())
    content[8 * 4096 :] = b"\xaa" * (len(content) - 8 * 4096)
    database.write_bytes(content)

    with InventoryReader(database) as reader, pytest.raises(Unreadable, match="it is damaged"):
        list(reader.find(Query()))


def test_value_of_a_wrong_type_is_told(database: Path) -> None:
    """A row that somebody changed by hand is not shown as something else."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        schema.migrate(connection)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(certificates)")]
        values = ", ".join(["1", *["'x'"] * (len(columns) - 1)])
        connection.execute(f"INSERT INTO certificates VALUES ({values})")  # noqa: S608 - constants

    with InventoryReader(database) as reader, pytest.raises(Unreadable, match="TypeError"):
        list(reader.find(Query()))
