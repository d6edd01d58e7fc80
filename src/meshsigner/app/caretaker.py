"""Looks after the inventory's files that nobody writes, as long as the server lives.

Decides when; what is done to a file is `inventory.rest`'s matter.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from meshsigner.errors import RecordFailed
from meshsigner.inventory.files import worker_files
from meshsigner.inventory.lock import FileLock
from meshsigner.inventory.rest import tend
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

INTERVAL_S = 60.0


def _now() -> datetime:
    return datetime.now(UTC)


class Caretaker:
    """Tends files at rest, again and again.

    Args:
        path: `inventory.path` of the configuration.
        retention: How long a row is kept after its certificate expired.
        hold: Asked before a worker's file is touched, with its place: True when
            no worker has it, nor will until `release`.
        release: Called with the place afterwards.
        lock: The named file's lock, held by the caller, who does not write that
            file; None when the caller writes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention: timedelta,
        hold: Callable[[int], bool] = lambda _: True,
        release: Callable[[int], None] = lambda _: None,
        lock: FileLock | None = None,
    ) -> None:
        self._path = path
        self._tend = partial(tend, retention=retention, clock=_now)
        self._hold = hold
        self._release = release
        self._lock = lock

    async def run(self) -> None:
        """Tend all files, then wait, until cancelled."""
        while True:
            await self.tend_all()
            await asyncio.sleep(INTERVAL_S)

    async def tend_all(self) -> None:
        """Tend each file at rest once."""
        if self._lock is not None and self._path.exists():
            await self._tend_one(self._path, self._lock)
        for number, file in sorted(worker_files(self._path).items()):
            if self._hold(number):
                try:
                    await self._tend_one(file, None)
                finally:
                    self._release(number)

    async def _tend_one(self, file: Path, lock: FileLock | None) -> None:
        try:
            await asyncio.to_thread(self._tend, file, lock=lock)
        except RecordFailed as error:
            get_logger().error(Event.INVENTORY_NOT_TENDED, cause=str(error))
