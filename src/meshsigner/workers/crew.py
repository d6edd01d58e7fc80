"""The workers of a server together: started, replaced, asked, ended.

What one place does when its worker ends is `post`'s matter; this is about all
of them: the port that they join one by one, the inventory that they divide, the
CA that they must agree on, the figures that outlive them.
"""

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from meshsigner.errors import ConfigurationError
from meshsigner.inventory.files import size_bytes, worker_file, worker_files
from meshsigner.observe.families import Family
from meshsigner.observe.logs import get_logger
from meshsigner.observe.merging import by_worker, counted, merge
from meshsigner.observe.names import Event, WorkerEnd
from meshsigner.observe.supervisor_metrics import SupervisorMetrics
from meshsigner.workers.backoff import Backoff
from meshsigner.workers.child import Child
from meshsigner.workers.messages import Kind
from meshsigner.workers.order import PortOrder
from meshsigner.workers.post import ANSWER_S, Post
from meshsigner.workers.readiness import Standing
from meshsigner.workers.settings import Settings
from meshsigner.workers.slots import at_rest, bound_of, free_slot

_START_S = 60.0  # from a process's start until all but its port is ready
_READY_S = 5.0  # from then until it could issue, beside others that can
_POLL_S = 0.1
_LOOK_S = 0.5  # within a probe's own patience of a second
_SLACK_S = 5.0  # beyond the grace, for a worker to end
_LEAVE_S = 5.0  # until a worker that ends takes no connection any more


class Crew:
    """All workers.

    Args:
        metrics: Counts those that end.

    Attributes:
        complete: Whether all have served once.
        in_care: Places whose inventory somebody else holds now, so that no
            worker may start there.
    """

    def __init__(self, metrics: SupervisorMetrics) -> None:
        self._metrics = metrics
        self._posts: list[Post] = []
        self._bounds: dict[int, int] = {}
        self._order = PortOrder()
        self._port = asyncio.Lock()
        self._outlived: tuple[Family, ...] = ()
        self._roots_pem = ""
        self._wanted = 0
        self.complete = False
        self.in_care: set[int] = set()

    async def start(self, settings: Settings) -> None:
        """Start all workers; none serves unless all can.

        Raises:
            ConfigurationError: At least one cannot; every problem of the first of them.
            Died: One ended without a word.
        """
        self._wanted = settings.config.workers
        prepared = (self._prepare(n, settings) for n in range(self._wanted))
        found = await asyncio.gather(*prepared, return_exceptions=True)
        children = [one for one in found if isinstance(one, Child)]
        with ExitStack() as undo:
            for child in children:
                undo.callback(child.kill)
            _raise_first(found)
            self._agree_on_roots(children)
            for child in children:
                await self._admit(child)
            undo.pop_all()
        self._posts = [self._post(child, settings) for child in children]
        self.complete = True

    async def replace(self, settings: Settings) -> None:
        """Put workers with new settings in the place of all, one after the other.

        Each successor serves before its predecessor ends.

        Raises:
            ConfigurationError: One could not start; the rest stay as they were.
            Died: The same.
        """
        old = list(self._posts)
        self._wanted = settings.config.workers
        for _ in range(self._wanted):
            child = await self._hire(free_slot(self.numbers() | self.in_care), settings)
            self._posts.append(self._post(child, settings))
            if old:
                await self._end(old.pop(0))
        for post in old:
            await self._end(post)
        get_logger().info(Event.WORKERS_REPLACED, workers=self._wanted)

    def reload(self, settings: Settings) -> None:
        """Have all workers take policy and logging anew, and look at their files."""
        for post in self._posts:
            post.settings = settings
            post.child.tell(Kind.RELOAD, **settings.plain())

    async def check(self) -> None:
        """Have all workers report; those that do not answer time and again are killed."""
        await asyncio.gather(*(post.check() for post in self._posts))
        self._take_down()

    async def refresh(self) -> None:
        """Have all workers report to somebody who looks; who does not answer says what it said."""
        await asyncio.gather(*(post.child.ask(_LOOK_S) for post in self._posts))
        self._take_down()

    def _take_down(self) -> None:
        for post in self._posts:
            if post.child.serves and post.child.report.roots_pem:
                self._roots_pem = post.child.report.roots_pem
        serving = sum(post.child.serves for post in self._posts)
        self._metrics.workers(wanted=self._wanted, serving=serving)

    async def stop(self, grace_s: float) -> None:
        """End all workers at once, each draining.

        Args:
            grace_s: How long they may take; the rest are killed.
        """
        posts = self._posts
        for post in posts:
            post.give_up()
            post.child.tell(Kind.END, successors=[])
        await asyncio.gather(*(self._await_end(post.child, grace_s) for post in posts))

    def kill(self) -> None:
        """End all workers at once, calls or not."""
        for post in self._posts:
            post.give_up()
            post.child.kill()

    def standings(self) -> Sequence[Standing]:
        """Say how each worker stands."""
        return [post.standing() for post in self._posts]

    def families(self) -> tuple[Family, ...]:
        """Return the figures of the whole server, and a few of each worker."""
        there = [(post.number, post.child.report.families) for post in self._posts]
        apart = [by_worker(number, families) for number, families in there]
        whole = [self._metrics.families(), self._outlived, *(families for _, families in there)]
        return merge([*whole, *apart])

    def hold(self, number: int) -> bool:
        """Keep workers from a place until it is taken out of `in_care`; False when one has it."""
        if number in self.numbers():
            return False
        self.in_care.add(number)
        return True

    def numbers(self) -> set[int]:
        """Return the places that have a worker, or will have one again."""
        return {post.number for post in self._posts} | set(self._bounds)

    # One worker.

    async def _hire(self, number: int, settings: Settings) -> Child:
        """Start a worker and let it serve, beside others only if it can."""
        with ExitStack() as undo:
            undo.callback(self._metrics.worker_ended, WorkerEnd.NOT_STARTED)
            child = await self._prepare(number, settings)
            undo.callback(child.kill)
            await self._await_readiness(child)
            await self._admit(child)
            undo.pop_all()
        return child

    async def _await_readiness(self, child: Child) -> None:
        """Wait until a worker could issue; without it the others have its connections.

        Raises:
            ConfigurationError: It cannot in time, and another serves.
        """
        deadline_s = time.monotonic() + _READY_S
        while True:
            await child.ask(ANSWER_S)
            missing = [part for part in child.report.parts if not part.ready]
            alone = not any(post.child.serves for post in self._posts)
            if alone or (child.report.parts and not missing):
                return
            if time.monotonic() > deadline_s:
                raise ConfigurationError(*(f"{part.name}: {part.detail}" for part in missing))
            await asyncio.sleep(_POLL_S)

    async def _prepare(self, number: int, settings: Settings) -> Child:
        """Start a process, and wait until all but its port is ready."""
        bound = self._bound(number, settings)
        self._bounds[number] = bound
        child = await Child.spawn(
            number,
            {
                **settings.plain(),
                "inventory": settings.inventory_of(number, bound),
                "roots_pem": self._roots_pem,
            },
        )
        child.gone.add_done_callback(lambda _: self._bounds.pop(number, None))
        get_logger().info(Event.WORKER_STARTED, number=number, pid=child.pid)
        with ExitStack() as undo:
            undo.callback(child.kill)
            await child.within(_START_S, child.prepared)
            undo.pop_all()
        return child

    async def _admit(self, child: Child) -> None:
        """Let a worker join the port: one at a time, for the order counts."""
        async with self._port:
            child.tell(Kind.LISTEN)
            await child.within(_START_S, child.serving)
            self._order.joined(child.number)
            child.left.add_done_callback(lambda _: self._order.left(child.number))
        get_logger().info(Event.WORKER_SERVING, number=child.number, pid=child.pid)

    def _post(self, child: Child, settings: Settings) -> Post:
        backoff = Backoff(secrets.SystemRandom().random)
        return Post(child, settings, hire=self._hire, ended=self._note_end, backoff=backoff)

    def _note_end(self, child: Child, how: WorkerEnd) -> None:
        """Keep what a worker counted: it happened, whoever has it in memory."""
        self._outlived = merge([self._outlived, counted(child.report.families)])
        child.forget()
        self._metrics.worker_ended(how)

    async def _end(self, post: Post) -> None:
        """End a worker whose successor serves: it loses no call."""
        child = post.child
        post.give_up()
        async with self._port:
            child.tell(Kind.END, successors=self._order.others(child.number))
            await asyncio.wait([child.left], timeout=_LEAVE_S)
        grace_s = post.settings.config.limits.drain.total_seconds() + _SLACK_S
        await self._await_end(child, grace_s)
        self._posts.remove(post)
        for other in self._posts:
            other.child.tell(Kind.STEER_FREELY)

    async def _await_end(self, child: Child, grace_s: float) -> None:
        await asyncio.wait([child.gone], timeout=grace_s)
        if not child.gone.done():
            get_logger().error(Event.WORKER_CUT, number=child.number, pid=child.pid)
            child.kill()
            await asyncio.wait([child.gone])

    # What they share.

    def _bound(self, number: int, settings: Settings) -> int:
        files = settings.files
        if files is None:
            return 0  # nothing is divided
        sizes = {place: size_bytes(file) for place, file in worker_files(files.path).items()}
        resting = at_rest(sizes, {*self._bounds, number})
        return bound_of(
            size_bytes(worker_file(files.path, number)),
            in_use=[bound for place, bound in self._bounds.items() if place != number],
            at_rest=[*resting, size_bytes(files.path)],
            max_bytes=files.max_bytes,
            workers=settings.config.workers,
        )

    def _agree_on_roots(self, children: Iterable[Child]) -> None:
        """Refuse to begin with two CAs: the directory has changed between two looks.

        A worker whose backend is away for now has no roots yet: it learns them later.
        """
        known = (child.prepared.result() for child in children)
        found = {roots for roots in known if roots} or {""}
        if len(found) > 1:
            raise ConfigurationError(
                "issuer: its directory changed while the workers started, so that they hold "
                "different roots; start again"
            )
        self._roots_pem = found.pop()


def _raise_first(found: Iterable[object]) -> None:
    """Raise what the first worker met that could not start: the others have the same settings.

    Raises:
        ConfigurationError: Every problem that it told.
        Died: It told none.
    """
    for one in found:
        if isinstance(one, BaseException):
            raise one
