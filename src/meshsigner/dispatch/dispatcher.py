"""In front of one remote backend: takes orders from its queue and calls it within its limits.

One loop a backend takes what comes next, asks `pace` for a start, and makes a
call of it; calls run beside each other up to the backend's bound. Orders that
nobody waits for, or that could not be answered in time, cost it nothing. How
each order ended is handed back to the turns, where it is checked and recorded
like any other.

Source: docs/ARCHITECTURE.md, "Backends"; docs/adr/0034.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from meshsigner.dispatch.breaker import Breaker, Circuit
from meshsigner.dispatch.calls import Caller
from meshsigner.dispatch.intents import Declared, Intents
from meshsigner.dispatch.pace import Pace
from meshsigner.errors import (
    BackendUnavailable,
    DeadlinePassed,
    MeshsignerError,
    NotReady,
    WrongCertificate,
)
from meshsigner.model import Chain
from meshsigner.observe.backend_metrics import BackendMetrics
from meshsigner.orders import OrderQueue, Ticket
from meshsigner.ports import RemoteSigner

_SMOOTHING = 0.2  # weight of the newest call in the usual duration
_SPARE_S = 1.0  # of a caller's time, for the backend that comes next
_TEND_S = 0.25
_AWAY = "the backend is left alone for a moment: its last calls failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an order ended at a remote backend.

    Attributes:
        ticket: The order.
        answer: Its chain, not checked yet, or why there is none.
    """

    ticket: Ticket
    answer: Chain | MeshsignerError


class Dispatcher:
    """Sends the orders of one queue to one backend.

    Args:
        backend: Whom; its limits are kept.
        orders: Whence.
        intents: What it may have issued.
        breaker: Whether it is called at all.
        metrics: Figures of this backend.
        hand_back: Given how orders ended, in the event loop.
    """

    def __init__(
        self,
        backend: RemoteSigner,
        orders: OrderQueue,
        *,
        intents: Intents,
        breaker: Breaker,
        metrics: BackendMetrics,
        hand_back: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self._backend = backend
        self._orders = orders
        self._intents = intents
        self._breaker = breaker
        self._metrics = metrics
        self._hand_back = hand_back
        self._pace = Pace(backend.limits.rate_per_s)
        self._caller = Caller(
            backend=backend, pace=self._pace, breaker=breaker, on_retry=metrics.retried
        )
        self._slots = asyncio.Semaphore(backend.limits.in_flight)
        self._wanted = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Sequence[Outcome]]] = set()
        self._usual_s = 0.0
        self._granted_at_s = 0.0
        self._closed = False
        self._granted = False
        self._tending: asyncio.TimerHandle | None = None
        metrics.follow(
            waiting=lambda: len(orders),
            rate=lambda: self._pace.rate_per_s,
            intents=lambda: len(intents),
        )

    @property
    def usual_s(self) -> float:
        """How long a call usually takes, seconds."""
        return self._usual_s

    @property
    def least_order_s(self) -> float:
        """How long an order takes at least from call to call, by the rate, seconds."""
        rate = self._pace.rate_per_s
        return 0.0 if rate is None else 1.0 / (rate * self._backend.limits.batch)

    @property
    def trying(self) -> bool:
        """True while a call finds out whether the backend is back."""
        return self._breaker.circuit is Circuit.TRYING and bool(self._calls)

    def wake(self) -> None:
        """Look at the queue: something came into it."""
        if self._closed:
            return
        if self._loop_task is None:
            self._loop_task = asyncio.get_running_loop().create_task(self._run())
            self._loop_task.add_done_callback(self._ended)
        self._wanted.set()
        if self._tending is None:
            self._tending = asyncio.get_running_loop().call_later(_TEND_S, self._tend)

    async def aclose(self, ends_s: float) -> None:
        """Take nothing more; give up what is under way then, its orders are handed back.

        Args:
            ends_s: Until when calls may go on, seconds of the event loop's clock.
        """
        self._closed = True
        if self._tending is not None:
            self._tending.cancel()
        await _cancelled([self._loop_task] if self._loop_task is not None else [])
        if self._calls:
            left_s = ends_s - asyncio.get_running_loop().time()
            await asyncio.wait(self._calls, timeout=max(left_s, 0.0))
        await _cancelled(list(self._calls))

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while len(self._orders):
                await self._next()

    async def _next(self) -> None:
        """Make the next call, once there is room for it; or hand back what none can be made for."""
        await self._room()
        if self._breaker.circuit is Circuit.OPEN:
            self._return(self._orders.take(len(self._orders)), BackendUnavailable(_AWAY))
            return
        await self._slots.acquire()
        sent = False
        try:
            if not self._granted:
                await self._pace.grant()
            tickets = self._take()
            sent = bool(tickets)
            self._granted = not sent  # a start that nobody needed is for the next call
        finally:
            if not sent:
                self._slots.release()
        if tickets:
            call = asyncio.get_running_loop().create_task(self._send(tickets))
            self._calls.add(call)
            call.add_done_callback(partial(self._sent, tickets))

    @property
    def _batch(self) -> int:
        """How many orders the next call may have: one, where it only finds out."""
        return 1 if self._breaker.circuit is Circuit.TRYING else self._backend.limits.batch

    async def _room(self) -> None:
        """Wait for a free slot, and where a call finds out, for its end."""
        while self._slots.locked() or self.trying:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # the calls' own callbacks run first

    def _take(self) -> list[Ticket]:
        """Take the orders of the next call: those that can be answered in time."""
        self._give_up_late()
        return self._orders.take(self._batch)

    def _give_up_late(self) -> None:
        """Give orders back that cannot be answered in time, early enough for who comes next."""
        in_time_s = asyncio.get_running_loop().time() + self._usual_s

        def is_late(ticket: Ticket) -> bool:
            spare_s = _SPARE_S if ticket.route else 0.0
            return not ticket.abandoned and ticket.deadline_s <= in_time_s + spare_s

        late = self._orders.take_all(is_late)
        if late:
            self._metrics.rejected("deadline", len(late))
            self._return(late, DeadlinePassed("the backend could not have answered in time"))

    def _tend(self) -> None:
        """Look again and again at what waits, for as long as something does."""
        self._tending = None
        self._give_up_late()
        if len(self._orders) and not self._closed:
            self._tending = asyncio.get_running_loop().call_later(_TEND_S, self._tend)

    async def _send(self, tickets: Sequence[Ticket]) -> Sequence[Outcome]:
        """Make one call for some orders."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        self._learn_rate(len(tickets), started_s)
        self._metrics.granted([started_s - ticket.since_s for ticket in tickets])
        declared = await self._intents.declare([ticket.order for ticket in tickets])
        for ticket, one in zip(tickets, declared, strict=True):
            ticket.token = one.errand.token if isinstance(one, Declared) else ""
        deadline_s = max(ticket.deadline_s for ticket in tickets) or started_s
        alone = not all(ticket.route for ticket in tickets)
        answers = await self._answers(declared, deadline_s, alone=alone)
        self._metrics.call_ended(loop.time() - started_s)
        return [
            Outcome(ticket=ticket, answer=answer)
            for ticket, answer in zip(tickets, answers, strict=True)
        ]

    async def _answers(
        self, declared: Sequence[Declared | MeshsignerError], deadline_s: float, *, alone: bool
    ) -> Sequence[Chain | MeshsignerError]:
        """Call for what was not asked before; look up first what was."""
        answers: list[Chain | MeshsignerError | None] = [
            await self._known(one, deadline_s) if isinstance(one, Declared) else one
            for one in declared
        ]
        errands = {
            place: one.errand
            for place, one in enumerate(declared)
            if isinstance(one, Declared) and answers[place] is None
        }
        if errands:
            started_s = asyncio.get_running_loop().time()
            called = await self._caller.call(list(errands.values()), deadline_s, alone=alone)
            self._learn_duration(asyncio.get_running_loop().time() - started_s)
            for place, answer in zip(errands, called, strict=True):
                answers[place] = self._judged(declared[place], answer)
        return [answer for answer in answers if answer is not None]

    async def _known(self, one: Declared, deadline_s: float) -> Chain | MeshsignerError | None:
        """Return what came of an earlier call, or None when one may be made (again)."""
        capabilities = self._backend.capabilities
        if not one.repeated or (capabilities.idempotent and not capabilities.finds):
            return None
        unknown = _unknown()
        found = await self._caller.find(one.errand, unknown, deadline_s)
        return found if isinstance(found, Chain) or found is unknown else None

    def _judged(
        self, one: Declared | MeshsignerError, answer: Chain | MeshsignerError
    ) -> Chain | MeshsignerError:
        """Keep in mind that an earlier call may have issued, whatever this one says of itself."""
        repeated = isinstance(one, Declared) and one.repeated
        in_doubt = repeated and not self._backend.capabilities.finds
        return _unknown() if in_doubt and not isinstance(answer, Chain) else answer

    def _sent(self, tickets: Sequence[Ticket], done: asyncio.Task[Sequence[Outcome]]) -> None:
        """Hand back how a call ended, whatever ended it."""
        self._calls.discard(done)
        self._slots.release()
        if done.cancelled():
            outcomes = _outcomes(tickets, NotReady("the server is shutting down"))
            self._deliver(outcomes, known=False)
        elif (bug := done.exception()) is not None:
            self._deliver(_outcomes(tickets, _as_bug(self._backend.name, bug)), known=False)
        else:
            self._deliver(done.result(), known=True)

    def _deliver(self, outcomes: Sequence[Outcome], *, known: bool) -> None:
        """Hand back outcomes; intents of those without a certificate end here."""
        for outcome in outcomes:
            answer = outcome.answer
            self._metrics.order_ended("ok" if isinstance(answer, Chain) else answer.reason)
            if not isinstance(answer, Chain):
                settled = known and _is_settled(answer)
                self._intents.end(outcome.ticket.token, settled=settled)
        self._hand_back(outcomes)

    def end(self, ticket: Ticket, *, recorded: bool) -> None:
        """Take it that a certificate from here is recorded, or was withheld."""
        self._intents.end(ticket.token, settled=recorded)

    def _return(self, tickets: Sequence[Ticket], error: MeshsignerError) -> None:
        if tickets:
            self._hand_back(_outcomes(tickets, error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell everybody of a bug in the loop; the next order starts it anew."""
        self._loop_task = None
        if not task.cancelled() and (bug := task.exception()) is not None:
            tickets = self._orders.take(len(self._orders))
            self._return(tickets, _as_bug(self._backend.name, bug))
        elif self._closed:
            tickets = self._orders.take(len(self._orders))
            self._return(tickets, NotReady("the server is shutting down"))

    def _learn_rate(self, orders: int, now_s: float) -> None:
        """Learn how long an order takes from call to call, for the wait to be expected."""
        if self._granted_at_s and len(self._orders):
            self._orders.worked(orders, now_s - self._granted_at_s)
        self._granted_at_s = now_s if len(self._orders) else 0.0

    def _learn_duration(self, seconds: float) -> None:
        known = self._usual_s or seconds
        self._usual_s = known + _SMOOTHING * (seconds - known)


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _outcomes(tickets: Sequence[Ticket], error: MeshsignerError) -> list[Outcome]:
    return [Outcome(ticket=ticket, answer=error) for ticket in tickets]


def _unknown() -> BackendUnavailable:
    return BackendUnavailable(
        "an earlier call may have issued this certificate, and that cannot be found out",
        maybe_issued=True,
    )


def _is_settled(error: MeshsignerError) -> bool:
    """Tell whether certainly nothing was issued."""
    if isinstance(error, BackendUnavailable):
        return not error.maybe_issued
    return not isinstance(error, WrongCertificate)  # some of the answers were missing


def _as_bug(backend: str, bug: BaseException) -> MeshsignerError:
    error = MeshsignerError(f"a bug in the backend {backend}")
    error.__cause__ = bug
    return error
