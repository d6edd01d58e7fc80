"""A file that others change: read at once, and again whenever it is another.

Looks at short intervals instead of waiting for events: what a kubelet does to
the links of a mount, what a network file system never tells and what a replaced
directory hides are all seen, for the price of one stat(2).
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

POLL_S = 1.0


async def follow(
    path: Path, taken: Callable[[bytes | None], object], *, poll_s: float = POLL_S
) -> None:
    """Hand over a file's content, now and at each change, until cancelled.

    Args:
        path: The file; links are followed.
        taken: Told the content, None while it cannot be read.
        poll_s: Seconds between two looks.
    """
    seen: object = follow  # equal to no signature
    while True:
        found = _signature(path)
        if found != seen:
            seen = found
            taken(_read(path))
        await asyncio.sleep(poll_s)


def _signature(path: Path) -> tuple[int, ...] | None:
    """Return what changes whenever the content does, None for no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - one call, once a second
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
