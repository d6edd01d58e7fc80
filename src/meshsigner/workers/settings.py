"""The settings of one reading of the configuration, as workers get them."""

from dataclasses import dataclass
from typing import Any

from meshsigner.config import Config
from meshsigner.config.fields import Address
from meshsigner.config.sections import InventorySqlite
from meshsigner.inventory.files import worker_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What workers are to do.

    Attributes:
        config: The whole configuration.
        generation: Counts readings; the policy's generation in all workers.
        address: Where they listen: the configured address with its real port.
    """

    config: Config
    generation: int
    address: Address

    @property
    def files(self) -> InventorySqlite | None:
        """The inventory whose files the workers divide; None where all write to one database."""
        section = self.config.inventory
        return section if isinstance(section, InventorySqlite) else None

    def plain(self) -> dict[str, Any]:
        """Return what every worker gets, as JSON knows it."""
        config = self.config.model_dump(mode="json")
        return {"config": config, "generation": self.generation, "address": str(self.address)}

    def inventory_of(self, number: int, max_bytes: int) -> tuple[str, int] | None:
        """Return path and bound of a worker's own part of the inventory, None when it has none.

        Args:
            number: Its place.
            max_bytes: Bound of its file.
        """
        files = self.files
        return (str(worker_file(files.path, number)), max_bytes) if files is not None else None
