"""Reads all files of an inventory as one, in one order.

Which files these are is `files`' matter, how one is read is `reading`'s.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Self

from meshsigner.inventory.files import existing_files
from meshsigner.inventory.query import Query
from meshsigner.inventory.reading import InventoryReader
from meshsigner.model import Record


class WholeInventory:
    """Answers queries over every file; belongs to the thread that made it.

    Args:
        path: `inventory.path` of the configuration.

    Raises:
        Unreadable: There is no file, or one cannot be read: an answer that
            leaves rows out in silence is no answer.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            files = existing_files(path) or [path]  # the reader says what is missing
            self._readers = [opened.enter_context(InventoryReader(file)) for file in files]
            self._opened = opened.pop_all()

    def find(self, query: Query) -> Iterator[Record]:
        """Yield the certificates that a query asks for, in its order.

        Raises:
            Unreadable: A file cannot be read, or not any more.
        """
        answers = [reader.find(query) for reader in self._readers]
        if query.by_expiry:
            merged = merge(*answers, key=lambda record: record.not_after)
        else:
            merged = merge(*answers, key=lambda record: record.issued_at, reverse=True)
        return islice(merged, query.limit)

    def close(self) -> None:
        """Release the files."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the files."""
        self.close()
