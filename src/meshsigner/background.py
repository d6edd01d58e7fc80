"""Loops in the background: what watches files and signals, for as long as the server lives."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

PAUSE_S = 5.0  # before a loop that failed is taken up again

Loop = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """A loop that is kept running until it is stopped.

    Args:
        loop: Never returns by itself; a bug in it is logged, and it starts anew,
            for what it watches is still in use.
        pause_s: Seconds before it starts anew.
    """

    def __init__(self, loop: Loop, *, pause_s: float = PAUSE_S) -> None:
        self._loop = loop
        self._pause_s = pause_s
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop it, and wait until it has."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._loop()
            except Exception:  # noqa: BLE001 - the supervisor of background loops: none may end in silence
                get_logger().exception(Event.WATCH_FAILED)
            await asyncio.sleep(self._pause_s)
