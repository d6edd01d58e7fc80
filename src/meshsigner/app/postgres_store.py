"""The inventory in PostgreSQL, made of its settings, and what tends it while the server lives."""

import asyncio
from datetime import UTC, datetime, timedelta

from meshsigner.config.inventory import InventoryPostgres
from meshsigner.errors import RecordFailed
from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_reading import PostgresReader
from meshsigner.inventory.postgres_rest import tend
from meshsigner.inventory.postgres_server import PostgresServer
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

INTERVAL_S = 60.0
_PATIENCE_S = 30.0  # then the next process may have its turn


def server_of(section: InventoryPostgres) -> PostgresServer:
    """Return where the database is."""
    return PostgresServer(
        hosts=section.url.hosts,
        user=section.url.user,
        database=section.url.database,
        schema=section.schema_name,
        password_file=section.password_file,
        ssl_mode=section.sslmode,
        ca_file=section.ca_file,
        certificate_file=section.certificate,
        key_file=section.key,
    )


def inventory_of(section: InventoryPostgres) -> PostgresInventory:
    """Return a writer, one for each worker."""
    return PostgresInventory(server_of(section), timeout_s=section.timeout.total_seconds())


def reader_of(section: InventoryPostgres) -> PostgresReader:
    """Return a reader.

    Raises:
        Unreadable: The database cannot be read.
    """
    return PostgresReader(server_of(section))


def caretaker_of(section: InventoryPostgres) -> "DatabaseCaretaker":
    """Return what deletes rows whose retention is over."""
    return DatabaseCaretaker(server_of(section), retention=section.retention)


class DatabaseCaretaker:
    """Deletes rows whose retention is over, again and again.

    Every server of the database has one; which of them works is settled by a
    lock there.

    Args:
        server: Where the database is.
        retention: How long a row is kept after its certificate expired.
    """

    def __init__(self, server: PostgresServer, *, retention: timedelta) -> None:
        self._server = server
        self._retention = retention

    async def run(self) -> None:
        """Delete, then wait, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)  # first: at the start there is enough to do
            await self.tend_once()

    async def tend_once(self) -> int | None:
        """Delete once; return how many rows, None when another process is at it or it failed."""
        before = datetime.now(UTC) - self._retention
        try:
            return await tend(self._server, before=before, patience_s=_PATIENCE_S)
        except RecordFailed as error:
            get_logger().error(Event.INVENTORY_NOT_TENDED, cause=str(error))
            return None
