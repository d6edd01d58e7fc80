"""From settings to the inventory: which store it is, who tends it, who reads it.

PostgreSQL's library is an extra, and megabytes: it is loaded only where it is
configured.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Protocol, Self

from meshsigner.app.caretaker import Caretaker
from meshsigner.config import Config
from meshsigner.config.inventory import InventoryPostgres
from meshsigner.errors import ConfigurationError
from meshsigner.inventory.files import size_bytes, worker_files
from meshsigner.inventory.query import Query
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.inventory.whole import WholeInventory
from meshsigner.model import Record
from meshsigner.ports import Inventory


class Tends(Protocol):
    """What looks after rows whose time is over, until it is cancelled."""

    async def run(self) -> None:
        """Tend, then wait, again and again."""
        ...


class Reader(Protocol):
    """What answers questions about the inventory."""

    def find(self, query: Query) -> Iterator[Record]:
        """Yield the certificates that a query asks for, in its order."""
        ...

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        ...

    def __exit__(self, *_: object) -> None:
        """Release the store."""
        ...


def inventory_of(config: Config) -> Inventory:
    """Return where certificates are written down; it is opened at its first use.

    Files that workers wrote before count within the bound of the whole inventory.

    Raises:
        ConfigurationError: PostgreSQL's library is not installed.
    """
    section = config.inventory
    if isinstance(section, InventoryPostgres):
        inventory: Inventory = _postgres().inventory_of(section)
        return inventory
    at_rest = sum(map(size_bytes, worker_files(section.path).values()))
    return SqliteInventory(
        section.path,
        synchronous=section.synchronous,
        retention=section.retention,
        max_bytes=max(section.max_bytes - at_rest, size_bytes(section.path)),
    )


def caretaker_of(config: Config) -> Tends:
    """Return what looks after rows that no worker of a server of one process does.

    Raises:
        ConfigurationError: PostgreSQL's library is not installed.
    """
    section = config.inventory
    if isinstance(section, InventoryPostgres):
        caretaker: Tends = _postgres().caretaker_of(section)
        return caretaker
    return Caretaker(section.path, retention=section.retention)


def reader_of(config: Config) -> Reader:
    """Return what reads the inventory.

    Raises:
        ConfigurationError: PostgreSQL's library is not installed.
        Unreadable: It cannot be read.
    """
    section = config.inventory
    if isinstance(section, InventoryPostgres):
        reader: Reader = _postgres().reader_of(section)
        return reader
    return WholeInventory(section.path)


def _postgres() -> ModuleType:
    try:
        from meshsigner.app import postgres_store  # noqa: PLC0415 - an extra, see above
    except ModuleNotFoundError as error:
        msg = (
            "inventory: type postgres needs the package asyncpg, which is not installed: "
            "install meshsigner[postgres]"
        )
        raise ConfigurationError(msg) from error
    return postgres_store
