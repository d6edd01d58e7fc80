"""One place for a worker, kept filled: whoever ends there without leave is succeeded.

Leaves to `crew` how a worker is started; decides when.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from meshsigner.errors import ConfigurationError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event, WorkerEnd
from meshsigner.workers.backoff import Backoff
from meshsigner.workers.child import Child, Died
from meshsigner.workers.readiness import Standing
from meshsigner.workers.settings import Settings

ANSWER_S = 2.0  # a worker answers between two slices of a turn, each some 20 ms
UNANSWERED = 5  # so often in a row, and it hangs

Hire = Callable[[int, Settings], Awaitable[Child]]
Ended = Callable[[Child, WorkerEnd], None]


class Post:
    """A place that is kept filled until it is given up.

    Args:
        child: The first worker there; it serves.
        settings: What workers here are to do; may be replaced at any time.
        hire: Starts a worker and returns it when it serves; ConfigurationError or
            `Died` when it cannot.
        ended: Told of each worker that ended, and how.
        backoff: How long to wait before the next.
        answer_s: How long a worker may take to report.
    """

    def __init__(
        self,
        child: Child,
        settings: Settings,
        *,
        hire: Hire,
        ended: Ended,
        backoff: Backoff,
        answer_s: float = ANSWER_S,
    ) -> None:
        self.number = child.number
        self.child = child
        self.settings = settings
        self._hire = hire
        self._ended = ended
        self._backoff = backoff
        self._answer_s = answer_s
        self._unanswered = 0
        self._detail = ""
        self._given_up = False
        self._keeping = asyncio.create_task(self._keep())

    def give_up(self) -> None:
        """Start no worker here any more; who is here ends when told to."""
        self._given_up = True
        if self.child.gone.done():
            self._keeping.cancel()

    def standing(self) -> Standing:
        """Say how the worker here stands."""
        child = self.child
        if child.serves:
            detail = f"serving, process {child.pid}"
            return Standing(
                number=self.number, serving=True, detail=detail, parts=child.report.parts
            )
        return Standing(number=self.number, serving=False, detail=self._detail or "ending")

    async def check(self) -> None:
        """Have the worker report; one that does not answer time and again is killed."""
        child = self.child
        if not child.serves:
            return
        if await child.ask(self._answer_s):
            self._unanswered = 0
            return
        self._unanswered += 1
        if self._unanswered >= UNANSWERED and not child.gone.done():
            get_logger().error(Event.WORKER_HUNG, number=self.number, pid=child.pid)
            child.kill()

    async def _keep(self) -> None:
        while True:
            await self._await_end()
            if self._given_up:
                return
            await self._succeed()

    async def _await_end(self) -> None:
        child = self.child
        code = await child.gone
        hung = self._unanswered >= UNANSWERED
        self._unanswered = 0
        if self._given_up:
            self._ended(child, WorkerEnd.REPLACED)
            return
        get_logger().error(Event.WORKER_ENDED, number=self.number, pid=child.pid, exit_code=code)
        self._ended(child, WorkerEnd.HUNG if hung else WorkerEnd.CRASHED)

    async def _succeed(self) -> None:
        """Fill the place again, as often as it takes."""
        served_s = self.child.serving_s
        lived_s = time.monotonic() - served_s if served_s is not None else 0.0
        cause = "the last one has ended"
        while True:
            wait_s = self._backoff.next_s(lived_s)
            self._detail = f"not serving, started again within {wait_s:.1f} s: {cause}"
            await asyncio.sleep(wait_s)
            try:
                self.child = await self._hire(self.number, self.settings)
            except (ConfigurationError, Died) as error:
                lived_s, cause = 0.0, str(error)
                get_logger().error(Event.WORKER_NOT_STARTED, number=self.number, cause=cause)
            else:
                return
