"""One PostgreSQL for all tests of the store; each has a schema of its own in it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_reading import PostgresReader
from meshsigner.inventory.postgres_server import PostgresServer
from meshsigner.inventory.query import Query
from meshsigner.model import Record
from tests.conformance.postgres.database import Database, databases
from tests.secret_scan import no_secrets, pytest_runtest_makereport

__all__ = ["no_secrets", "pytest_runtest_makereport"]

_SCHEMAS = count(1)


@pytest.fixture(scope="session")
def _shared() -> Iterator[Database]:
    with databases() as (database,):
        database.initialise()
        yield database


@pytest.fixture
def database(_shared: Database) -> Iterator[Database]:
    """Return the server, running; a test may do to it what it likes."""
    yield _shared
    _shared.thaw()
    if not _shared.answers():
        _shared.kill()
        _shared.start()


@pytest.fixture
def server(database: Database) -> PostgresServer:
    """Return where the server is, with a schema that is not there yet."""
    return PostgresServer(
        hosts=(("127.0.0.1", database.port),),
        user="signer",
        database="meshsigner",
        schema=f"test_{next(_SCHEMAS)}",
        ssl_mode="disable",
    )


@pytest.fixture
def opened(server: PostgresServer) -> Iterator[Callable[..., PostgresInventory]]:
    """Make inventories at `server`, closed at the end; keywords change server or inventory."""
    made: list[PostgresInventory] = []

    def make(*, timeout_s: float = 4.0, **changes: Any) -> PostgresInventory:
        made.append(PostgresInventory(replace(server, **changes), timeout_s=timeout_s))
        return made[-1]

    yield make
    for inventory in made:
        inventory.close()


@pytest.fixture
def inventory(opened: Callable[..., PostgresInventory]) -> PostgresInventory:
    """Return an inventory with its defaults, opened."""
    inventory = opened()
    inventory.probe()
    return inventory


@pytest.fixture
def stored(server: PostgresServer) -> Callable[..., list[Record]]:
    """Read what is in the store, newest first unless a query says otherwise."""

    def read(**query: Any) -> list[Record]:
        with PostgresReader(server) as reader:
            return list(reader.find(Query(**query)))

    return read
