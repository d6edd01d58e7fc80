"""Collects what is wrong with several parts, so that all of it is told at once."""

from collections.abc import Callable
from typing import TypeVar

from meshsigner.errors import ConfigurationError

T = TypeVar("T")


class Problems:
    """What went wrong so far."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._found)

    def attempt(self, make: Callable[[], T], *, where: str = "") -> T | None:
        """Make a part, or note what is wrong with it.

        Args:
            make: May raise ConfigurationError.
            where: Put before each of its problems.

        Returns:
            The part, None when it could not be made.
        """
        try:
            return make()
        except ConfigurationError as error:
            self.add(*(f"{where}: {p}" if where else p for p in error.problems))
            return None

    def add(self, *problems: str) -> None:
        """Note problems."""
        self._found += problems

    def settle(self) -> None:
        """Go on only if there are none.

        Raises:
            ConfigurationError: There are; it holds all of them.
        """
        if self._found:
            raise ConfigurationError(*self._found)
