"""The settings of one reading of the configuration, as workers get them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshsigner.config import Config
from meshsigner.config.fields import Address
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
    def inventory(self) -> Path:
        """The inventory's path, from which the workers' files are named."""
        return self.config.inventory.path

    def plain(self) -> dict[str, Any]:
        """Return what every worker gets, as JSON knows it."""
        config = self.config.model_dump(mode="json")
        return {"config": config, "generation": self.generation, "address": str(self.address)}

    def inventory_of(self, number: int, max_bytes: int) -> tuple[str, int]:
        """Return path and bound of a worker's own part of the inventory.

        Args:
            number: Its place.
            max_bytes: Bound of its file.
        """
        return str(worker_file(self.inventory, number)), max_bytes
