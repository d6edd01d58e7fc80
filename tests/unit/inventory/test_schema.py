"""Schema: which files are ours, and how an older one becomes today's or stays untouched."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.columns import COLUMNS
from meshsigner.inventory.query import Query
from meshsigner.inventory.reading import InventoryReader
from meshsigner.inventory.schema import STEPS, WrongSchema, check_version, migrate
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Record
from tests.unit.inventory.records import make_record

AUDIT_LOG = Path(__file__).parents[3] / "docs" / "audit-log.md"
VERSION_1 = Path(__file__).with_name("version1.sql").read_text()
ADD_COLUMN = "ALTER TABLE certificates ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'"


@pytest.fixture
def connection(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an empty file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        yield connection


def _dump(connection: sqlite3.Connection) -> list[str]:
    """All content, with the versions that a dump leaves out."""
    pragmas = ("user_version", "application_id")
    return [*connection.iterdump(), *(str(_pragma(connection, name)) for name in pragmas)]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def test_empty_file_becomes_an_inventory(connection: sqlite3.Connection) -> None:
    """A new file gets today's version, and one that has it is left as it is."""
    migrate(connection)
    before = _dump(connection)
    migrate(connection)

    check_version(connection)
    assert len(STEPS) == _pragma(connection, "user_version")
    assert before == _dump(connection)


def test_columns_are_the_fields_of_a_record(connection: sqlite3.Connection) -> None:
    """The table holds each field of a record under its own name, in order, none may be NULL."""
    migrate(connection)
    table = connection.execute("PRAGMA table_info(certificates)").fetchall()

    assert ["id", *COLUMNS] == [name for _, name, *_ in table]
    assert all(not_null or name == "id" for _, name, _, not_null, *_ in table)


def test_version_1_is_read_and_written_on(
    opened: Callable[..., SqliteInventory], database: Path
) -> None:
    """A file as the first release wrote it keeps its rows and takes new ones."""
    with closing(sqlite3.connect(database)) as old:
        old.executescript(VERSION_1)
    inventory = opened()
    new = make_record(identity="spiffe://cluster.local/ns/foo/sa/new")
    inventory.write([new], [])
    with InventoryReader(database) as reader:
        found = {record.serial: record for record in reader.find(Query())}

    assert new == found.pop(new.serial)
    assert [_row_of_version_1()] == list(found.values())


def test_table_of_version_1_is_kept_as_released(connection: sqlite3.Connection) -> None:
    """The first step still makes what the first release made."""
    migrate(connection, STEPS[:1])
    made = {_plain(row[0]) for row in connection.execute("SELECT sql FROM sqlite_master")}
    statements = {_plain(s) for s in VERSION_1.split(";") if "CREATE" in s}

    assert statements == made


def test_later_steps_are_taken_from_version_1(connection: sqlite3.Connection) -> None:
    """Each step that a file has not seen is taken once, and its rows stay."""
    connection.executescript(VERSION_1)
    migrate(connection, [*STEPS[:1], (ADD_COLUMN,), ("CREATE INDEX x ON certificates (colour)",)])

    assert connection.execute("SELECT serial, colour FROM certificates").fetchall() == [
        ("4f9b217c0d55e813", "red")
    ]
    assert _pragma(connection, "user_version") == 3


def test_failed_migration_leaves_the_file_as_it_was(connection: sqlite3.Connection) -> None:
    """All steps are one transaction: a later one that fails takes the earlier ones back."""
    connection.executescript(VERSION_1)
    before = _dump(connection)

    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        migrate(connection, [*STEPS[:1], (ADD_COLUMN,), ("CREATE NONSENSE",)])
    assert before == _dump(connection)
    assert not connection.in_transaction


def test_newer_file_is_refused_untouched(connection: sqlite3.Connection) -> None:
    """A file of a later release is refused with what to do, by writer and reader."""
    migrate(connection, [*STEPS, (ADD_COLUMN,)])
    before = _dump(connection)

    for refuse in (migrate, check_version):
        with pytest.raises(WrongSchema, match=r"version 3.*up to 2: run the newer"):
            refuse(connection)
    assert before == _dump(connection)


def test_older_file_is_refused_by_those_who_only_read(connection: sqlite3.Connection) -> None:
    """A reader migrates nothing: it says that the server will."""
    migrate(connection)

    with pytest.raises(WrongSchema, match="start the server once"):
        check_version(connection, [*STEPS, (ADD_COLUMN,)])


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE songs (title)",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 252006673",
    ],
)
def test_database_of_another_program_is_refused_untouched(
    connection: sqlite3.Connection, script: str
) -> None:
    """A database that does not bear our mark is never written to."""
    connection.executescript(script)
    before = _dump(connection)

    with pytest.raises(WrongSchema, match="another program"):
        migrate(connection)
    assert before == _dump(connection)


def test_newer_file_withholds_certificates(
    opened: Callable[..., SqliteInventory], database: Path
) -> None:
    """A server on a newer file records nothing, and says which file and why."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        migrate(connection, [*STEPS, (ADD_COLUMN,)])

    with pytest.raises(RecordFailed, match=rf"{re.escape(str(database))}.*run the newer"):
        opened().probe()


def test_every_column_is_documented() -> None:
    """docs/audit-log.md has one row for each column, in order, and no other."""
    rows = re.findall(r"^\| `(\w+)` \|", AUDIT_LOG.read_text(), flags=re.MULTILINE)

    assert list(COLUMNS) == rows


def _plain(sql: str) -> str:
    return " ".join(sql[sql.index("CREATE") :].split())


def _row_of_version_1() -> Record:
    return Record(
        serial="4f9b217c0d55e813",
        identity="spiffe://cluster.local/ns/foo/sa/bar",
        cluster="Kubernetes",
        namespace="foo",
        pod_name="bar-0",
        pod_uid="uid-0",
        node_name="node-0",
        credential_id="jti-0",
        impersonator="spiffe://cluster.local/ns/istio-system/sa/ztunnel",
        auth_method="token_review",
        issuer="ab",
        backend="embedded",
        public_key_sha256="cd",
        csr_sha256="ef",
        not_before=datetime(2026, 11, 24, 11, 58, tzinfo=UTC),
        not_after=datetime(2026, 11, 25, 12, tzinfo=UTC),
        policy_generation=3,
        client_address="ipv4:127.0.0.1:7",
        issued_at=datetime(2026, 11, 24, 12, 0, 0, 123_456, tzinfo=UTC),
        delivered=False,
        certificate_der=b"\x30\x03\x02\x01\x01",
    )
