"""What one durable append costs on a file system: the floor under a recorded certificate."""

import os
import time
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = 4096


class FsyncProbe:
    """Appends pages to a file and makes each durable.

    Args:
        file: On the file system in question; replaced if it is there.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._page = os.urandom(PAGE_BYTES)

    def measure_s(self) -> float:
        """Return how long one append of 4 KiB and its fdatasync took, in seconds."""
        began = time.perf_counter()
        os.write(self._descriptor, self._page)
        os.fdatasync(self._descriptor)
        return time.perf_counter() - began

    def close(self) -> None:
        """Close the file and leave it."""
        os.close(self._descriptor)
