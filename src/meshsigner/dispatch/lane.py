"""One backend with what waits for it, and whether orders should be given to it now.

A backend that signs at once has a queue that turns empty; a remote one has a
dispatcher in front. What keeps it from being chosen is either certain (its
circuit is open) or only advice (its health says no): advice is followed while
another backend can sign.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from meshsigner.dispatch.breaker import Breaker, Circuit
from meshsigner.dispatch.dispatcher import Dispatcher, Outcome
from meshsigner.dispatch.intents import Intents
from meshsigner.errors import MeshsignerError, Overloaded, ServiceFault, WrongCertificate
from meshsigner.model import Capabilities, Health, Order
from meshsigner.observe.backend_metrics import BackendMetrics, LaneMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event
from meshsigner.orders import OrderQueue, QueueLimits, Ticket, Waiter, order_key
from meshsigner.ports import LocalSigner, RemoteSigner, Signer
from meshsigner.recorder import Recorder
from meshsigner.waiting import Priority

REMOTE_WAIT_S = 9.0  # longest expected wait for a remote backend: its caller has ten


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a backend should not be given orders.

    Attributes:
        text: In words.
        certain: False where it may be tried all the same, if nobody else can.
    """

    text: str
    certain: bool


class Lane:
    """A backend in its place.

    Args:
        backend: Whom.
        limits: Bounds of its queue.
        metrics: The process's.

    Attributes:
        name: The backend's.
        backend: Itself.
        orders: What waits for it.
        metrics: Its figures.
        wrong: What it signed wrong, until it signs right again.
    """

    def __init__(self, backend: Signer, limits: QueueLimits, metrics: Metrics) -> None:
        self.name = backend.name
        self.capabilities: Capabilities = backend.capabilities
        self.orders = OrderQueue(limits, backend.name)
        self.metrics = LaneMetrics(metrics.backends, backend.name)
        self.wrong: WrongCertificate | None = None
        self.failure = ""

    def obstacle(self, now: datetime) -> Obstacle | None:
        """Say why it should not be given orders, None when it may."""
        del now
        if self.wrong is None:
            return None
        return Obstacle(text=f"signed something else than was ordered: {self.wrong}", certain=False)

    def signed_wrong(self, wrong: WrongCertificate) -> None:
        """Take it that it signed something else than was ordered."""
        if self.wrong is None:
            get_logger().error(Event.BACKEND_WRONG, backend=self.name, cause=str(wrong))
        self.wrong = wrong

    def signed_right(self) -> None:
        """Take it that it signed what was ordered."""
        self.failure = ""
        if self.wrong is not None:
            self.wrong = None
            get_logger().info(Event.BACKEND_BACK, backend=self.name)

    def failed(self, error: MeshsignerError) -> None:
        """Take it that it did not sign an order; say it once."""
        if isinstance(error, ServiceFault) and not self.failure:
            get_logger().warning(Event.BACKEND_FAILED, backend=self.name, cause=str(error))
            self.failure = str(error)

    def health_with(self, health: Health, now: datetime) -> Health:
        """Join what the backend says of itself with what was seen of it."""
        obstacle = self.obstacle(now)
        if obstacle is None:
            return health
        return replace(health, ready=False, detail=obstacle.text)


class LocalLane(Lane):
    """A backend that signs at once, inside a turn."""

    def __init__(self, backend: LocalSigner, limits: QueueLimits, metrics: Metrics) -> None:
        super().__init__(backend, limits, metrics)
        self.backend = backend

    def offer(
        self, order: Order, priority: Priority, waiter: Waiter, route: tuple[str, ...]
    ) -> None:
        """Put an order into the queue.

        Raises:
            Overloaded: A bound is met, or the wait would be too long.
        """
        self.orders.offer(order, order_key(order), priority, waiter, route=route)

    def take_over(self, ticket: Ticket) -> None:
        """Put an order into the queue that another lane gave up.

        Raises:
            Overloaded: A bound is met, or the wait would be too long.
        """
        ticket.key = order_key(ticket.order)
        self.orders.take_over(ticket)


class RemoteLane(Lane):
    """A backend whose calls are awaited.

    Args:
        backend: Whom.
        limits: Bounds of its queue.
        metrics: The process's.
        recorder: Keeps its intents.
        clock: Returns the time, UTC.
        hand_back: Given how orders ended.
    """

    def __init__(
        self,
        backend: RemoteSigner,
        limits: QueueLimits,
        metrics: Metrics,
        *,
        recorder: Recorder,
        clock: Callable[[], datetime],
        hand_back: Callable[[Sequence[Outcome]], None],
    ) -> None:
        super().__init__(backend, replace(limits, wait_s=REMOTE_WAIT_S), metrics)
        self.backend = backend
        self.breaker = Breaker()
        self.intents = Intents(
            backend.name,
            note=recorder.intend,
            settle=recorder.settle,
            clock=clock,
            wanted=backend.capabilities.intents,
        )
        self.dispatcher = Dispatcher(
            backend,
            self.orders,
            intents=self.intents,
            breaker=self.breaker,
            metrics=BackendMetrics(metrics.backends, backend.name),
            hand_back=hand_back,
        )

    def obstacle(self, now: datetime) -> Obstacle | None:
        """Say why it should not be given orders, None when it may."""
        circuit = self.breaker.circuit
        if circuit is Circuit.OPEN or (circuit is Circuit.TRYING and self._is_tried):
            cause = str(self.wrong) if self.wrong is not None else self.failure
            return Obstacle(text=f"left alone for a moment: {cause}", certain=True)
        health = self.backend.health(now)
        return None if health.ready else Obstacle(text=health.detail, certain=False)

    @property
    def _is_tried(self) -> bool:
        return self.dispatcher.trying or len(self.orders) > 0

    def signed_wrong(self, wrong: WrongCertificate) -> None:
        """Leave it alone, for longer than after a failed call."""
        super().signed_wrong(wrong)
        self.breaker.signed_wrong()

    def signed_right(self) -> None:
        """Take it that it signed what was ordered; it is believed again once its time is over."""
        if self.wrong is None:
            super().signed_right()
        elif self.breaker.circuit is Circuit.TRYING:
            self.breaker.signed_right()
            super().signed_right()

    def offer(
        self, order: Order, priority: Priority, waiter: Waiter, route: tuple[str, ...]
    ) -> None:
        """Put an order into the queue, or join it to one in flight.

        Raises:
            Overloaded: A bound is met, or the wait would be too long for this caller.
        """
        now_s = asyncio.get_running_loop().time()
        self.orders.offer(
            order,
            _patient_key(order),
            priority,
            waiter,
            route=route,
            since_s=now_s,
            patience_s=self._patience_s(waiter.deadline_s - now_s, route),
        )
        self.dispatcher.wake()

    def take_over(self, ticket: Ticket) -> None:
        """Put an order into the queue that another lane gave up.

        Raises:
            Overloaded: A bound is met, or the wait would be too long for its callers.
        """
        now_s = asyncio.get_running_loop().time()
        ticket.key, ticket.since_s = _patient_key(ticket.order), now_s
        patience_s = self._patience_s(ticket.deadline_s - now_s, ticket.route)
        self.orders.take_over(ticket, patience_s=patience_s)
        self.dispatcher.wake()

    def _patience_s(self, left_s: float, route: tuple[str, ...]) -> float:
        """Return how long an order may wait so that its answer, or another's, comes in time.

        Args:
            left_s: Of the caller's time.
            route: Who comes next: half of the time is left to them.

        Raises:
            Overloaded: One call finds out whether it is back; no more are made until then.
        """
        if self.breaker.circuit is Circuit.TRYING and self._is_tried:
            raise Overloaded("backend_tried")
        self.orders.least_order_s = self.dispatcher.least_order_s
        return min(REMOTE_WAIT_S, left_s / 2 if route else left_s - self.dispatcher.usual_s)


def _patient_key(order: Order) -> Hashable:
    """Make orders equal that differ in the second they were made in.

    A call takes longer than that, and who asks again meanwhile wants the same.
    """
    terms = order.terms
    lasting = terms.not_after - terms.not_before
    start = order.issuer.certificate.not_valid_before_utc
    alike = replace(terms, not_before=start, not_after=start + lasting)
    return order_key(replace(order, terms=alike))
