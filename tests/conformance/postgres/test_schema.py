"""Schema in a real PostgreSQL: from nothing, from an older version, and what is left alone."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.columns import COLUMNS
from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_reading import PostgresReader
from meshsigner.inventory.postgres_schema import STEPS, WrongSchema, check_version, migrate
from meshsigner.inventory.postgres_server import PostgresServer, Session, connect
from meshsigner.inventory.query import Unreadable
from meshsigner.model import Record
from tests.conformance.postgres.database import Database
from tests.unit.inventory.records import make_record

VERSION_1 = Path(__file__).with_name("version1.sql").read_text()
ADD_COLUMN = "ALTER TABLE certificates ADD COLUMN colour text NOT NULL DEFAULT 'red'"
Opened = Callable[..., PostgresInventory]


def _with_session(
    server: PostgresServer, use: Callable[[Session], Coroutine[Any, Any, object]]
) -> object:
    async def run() -> object:
        session = await connect(server, statement_s=5)
        try:
            return await use(session)
        finally:
            session.terminate()

    return asyncio.run(run())


def _columns(database: Database, schema: str) -> list[str]:
    return database.sql(
        "SELECT column_name FROM information_schema.columns "  # noqa: S608
        f"WHERE table_schema = '{schema}' AND table_name = 'certificates' ORDER BY ordinal_position"
    ).split()


def test_columns_are_the_fields_of_a_record(
    inventory: PostgresInventory, server: PostgresServer, database: Database
) -> None:
    """The table holds each field of a record under its own name, in order."""
    del inventory  # has made it
    assert _columns(database, server.schema) == ["id", *COLUMNS]


def test_older_version_keeps_its_rows_and_takes_new_ones(
    server: PostgresServer, database: Database, opened: Opened, stored: Callable[..., list[Record]]
) -> None:
    """A database of version 1, as version 1 wrote it, is migrated at the first use."""
    database.sql(VERSION_1.replace("@NAME@", server.schema), user="signer")
    record = make_record()
    opened().write([record], [])
    assert [one.serial for one in stored()] == [record.serial, "4f9b217c0d55e813"]


def test_step_is_taken_once_with_the_rows_kept(
    inventory: PostgresInventory, server: PostgresServer, stored: Callable[..., list[Record]]
) -> None:
    """A further step changes the tables under the rows; whoever comes later finds it done."""
    inventory.write([make_record()], [])
    newer = (*STEPS, (ADD_COLUMN,))
    for _ in range(2):
        _with_session(server, lambda session: migrate(session, server.schema, newer))
    with pytest.raises(Unreadable, match="run the newer meshsigner"):
        stored()
    # the version before goes on until it starts anew: replicas are updated one by one
    inventory.write([make_record()], [])


def test_failed_step_leaves_all_as_it_was(
    inventory: PostgresInventory, server: PostgresServer, database: Database
) -> None:
    """Half a migration is none."""
    del inventory
    broken = (*STEPS, (ADD_COLUMN, "SELECT 1/0"))
    with pytest.raises(Exception, match="division by zero"):
        _with_session(server, lambda session: migrate(session, server.schema, broken))
    assert _columns(database, server.schema) == ["id", *COLUMNS]


def test_newer_and_foreign_tables_are_refused(
    server: PostgresServer, database: Database, opened: Opened
) -> None:
    """What another program or a newer version has made is left alone, and told in words."""
    database.sql(f"CREATE SCHEMA {server.schema} CREATE TABLE certificates (a int)", user="signer")
    with pytest.raises(RecordFailed, match="tables of another program") as caught:
        opened().probe()
    assert not caught.value.may_pass


def test_reader_does_not_migrate(server: PostgresServer) -> None:
    """Who only reads makes no tables, and says who does."""
    with pytest.raises(Unreadable, match="start the server once"):
        PostgresReader(server)
    with pytest.raises(WrongSchema):
        _with_session(server, lambda session: check_version(session, server.schema))
