"""Names of objects that must be looked at: each once, by one task at a time, again if need be."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
Work = Callable[[str], Awaitable[float | None]]


class Queue:
    """Looks at named objects, those first that were added first.

    Args:
        work: Looks at one; returns None when it is as it should be, or how many
            seconds to wait at least before the next try, which grow with each.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._waiting: dict[str, None] = {}
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._pauses_s: dict[str, float] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._filled = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is looked at."""
        return not (self._waiting or self._busy or self._later)

    def add(self, name: str) -> None:
        """Have an object looked at; one that is being looked at is looked at once more."""
        if name in self._busy:
            self._again.add(name)
            return
        timer = self._later.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._waiting[name] = None
        self._filled.set()

    def add_all(self, names: Iterable[str]) -> None:
        """Have several looked at, in this order."""
        for name in names:
            self.add(name)

    async def run(self, tasks: int) -> None:
        """Look at what is added, several at a time, until cancelled or one raises."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(self._run_one())
        finally:
            for timer in self._later.values():
                timer.cancel()

    async def _run_one(self) -> None:
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            name = next(iter(self._waiting))
            del self._waiting[name]
            self._busy.add(name)
            try:
                pause_s = await self._work(name)
            finally:
                self._busy.discard(name)
            self._settle(name, pause_s)

    def _settle(self, name: str, pause_s: float | None) -> None:
        if pause_s is None:
            self._pauses_s.pop(name, None)
            if name in self._again:
                self._again.discard(name)
                self.add(name)
            return
        self._again.discard(name)
        grown_s = min(self._pauses_s.get(name, _FIRST_PAUSE_S / 2) * 2, _LONGEST_PAUSE_S)
        self._pauses_s[name] = grown_s
        loop = asyncio.get_running_loop()
        self._later[name] = loop.call_later(max(grown_s, pause_s), self._due, name)

    def _due(self, name: str) -> None:
        self._later.pop(name, None)
        self.add(name)
