"""The threads that may call a PKCS #11 module, and the way to them from the event loop.

A call into an HSM blocks, and may block for ever. It does so in a thread of
its own kind: one that never keeps the process from ending, that leaves out
what nobody waits for any more, and of which it is known how long its call has
been under way.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
Job = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """Threads that take jobs from one queue.

    Args:
        count: How many; 1 where the module may be called by one thread only.
        clock_s: A clock in seconds that only runs forward.
    """

    def __init__(self, count: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._clock_s = clock_s
        self._begun_s: list[float | None] = [None] * count
        for number in range(count):
            # A daemon: an HSM that never answers must not keep the process from ending.
            name = f"pkcs11-{number}"
            threading.Thread(target=self._work, args=(number,), name=name, daemon=True).start()

    async def run(self, job: Callable[[], T]) -> T:
        """Have a job done by one of the threads; cancelled before it begins, it is left out."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return await asyncio.wrap_future(future)

    def stuck_s(self) -> float:
        """Return for how many seconds all threads have been in a call; 0 while one is free."""
        begun_s = [moment for moment in self._begun_s if moment is not None]
        if len(begun_s) < len(self._begun_s):
            return 0.0
        return self._clock_s() - max(begun_s)

    def end(self) -> None:
        """Let each thread end after the jobs that wait; returns at once."""
        for _ in self._begun_s:
            self._jobs.put(None)

    def _work(self, number: int) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            self._begun_s[number] = self._clock_s()
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - raised again where it is waited for
                self._begun_s[number] = None
                future.set_exception(error)
            else:
                self._begun_s[number] = None
                future.set_result(result)
            del future, call, job  # results and errors must not live on in a thread that waits
