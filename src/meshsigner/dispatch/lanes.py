"""Who signs an order: the first backend of its route that can, and the next when that fails.

Decides nothing about what is certified: an order keeps its identity and its
terms wherever it goes, shortened to the end of the issuer that signs in the
end. An order that a backend may have signed already goes to no other.

Source: docs/ARCHITECTURE.md, "Backends"; docs/adr/0033.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import cast

from meshsigner.dispatch.dispatcher import Outcome
from meshsigner.dispatch.lane import LocalLane, RemoteLane
from meshsigner.errors import (
    BackendUnavailable,
    MeshsignerError,
    NotReady,
    Overloaded,
    RecordFailed,
    ServiceFault,
    WrongCertificate,
)
from meshsigner.leeway import settle_validity
from meshsigner.model import Chain, Health, Issuer, Order
from meshsigner.observe.metrics import Metrics
from meshsigner.orders import QueueLimits, Ticket, Waiter
from meshsigner.policy import under_issuer
from meshsigner.ports import LocalSigner, Signer, is_remote
from meshsigner.recorder import Recorder
from meshsigner.waiting import Priority

AnyLane = LocalLane | RemoteLane
Route = tuple[str, ...]


class Lanes:
    """All backends, in the order of the configuration.

    Args:
        backends: At least one, with names of their own.
        limits: Bounds of each queue.
        metrics: The process's.
        recorder: Keeps intents.
        clock: Returns the time, UTC.
        wanted: Called when a turn is wanted: a remote backend has answered.

    Attributes:
        local: Those that sign inside a turn.
        remote: Those that are called.
    """

    def __init__(
        self,
        backends: Sequence[Signer],
        *,
        limits: QueueLimits,
        metrics: Metrics,
        recorder: Recorder,
        clock: Callable[[], datetime],
        wanted: Callable[[], None],
    ) -> None:
        self._wanted = wanted
        self._clock = clock
        self._finished: list[Outcome] = []
        parts = partial(RemoteLane, recorder=recorder, clock=clock, hand_back=self._hand_back)
        self._all: tuple[AnyLane, ...] = tuple(
            parts(backend, limits, metrics)
            if is_remote(backend)
            else LocalLane(cast("LocalSigner", backend), limits, metrics)
            for backend in backends
        )
        self._by_name = {lane.name: lane for lane in self._all}
        self._names: Route = tuple(self._by_name)
        self.local = tuple(lane for lane in self._all if isinstance(lane, LocalLane))
        self.remote = tuple(lane for lane in self._all if isinstance(lane, RemoteLane))
        self._only = self.local[0] if self.local == self._all and len(self._all) == 1 else None
        for lane in self._all:
            lane.metrics.follow_usable(partial(self._is_usable, lane))

    def __len__(self) -> int:
        """Count the orders that wait for any backend."""
        return sum(len(lane.orders) for lane in self._all)

    # --- an order's way ------------------------------------------------------

    def first(self, route: Route, now: datetime) -> tuple[str, Issuer]:
        """Return the first backend of a route that can sign, and its issuer.

        Args:
            route: Names in order; empty for all.
            now: The time.

        Raises:
            NotReady: None can; says why of each.
        """
        if self._only is not None:
            return self._only.name, self._only.backend.issuer(now)
        resort: tuple[str, Issuer] | None = None
        faults = []
        for name in route or self._names:
            lane = self._by_name[name]
            obstacle = lane.obstacle(now)
            try:
                found = (name, lane.backend.issuer(now))
            except NotReady as error:
                faults.append(f"{name}: {error}")
                continue
            if obstacle is None:
                return found
            faults.append(f"{name}: {obstacle.text}")
            if not obstacle.certain and resort is None:
                resort = found
        if resort is None:
            raise NotReady(f"no backend can sign: {'; '.join(faults)}")
        return resort

    def offer(
        self, order: Order, priority: Priority, waiter: Waiter, backend: str, route: Route
    ) -> None:
        """Put an order into the queue of its backend, or of the next one where that is full.

        Args:
            order: For the backend's issuer.
            priority: Its place.
            waiter: Gets the chain or the error.
            backend: Name of the one that `first` returned.
            route: All that may sign it.

        Raises:
            Overloaded: All are full.
            BackendUnavailable: One may have signed it already, and cannot be asked now.
        """
        if self._only is not None:
            self._only.offer(order, priority, waiter, ())
            return
        pinned = self._pinned(order)
        if pinned is not None:
            self._offer_pinned(pinned, order, priority, waiter)
            return
        rest = self._after(backend, route)
        try:
            self._by_name[backend].offer(order, priority, waiter, rest)
        except Overloaded:
            if not self._offer_elsewhere(order, priority, waiter, rest):
                raise

    def _pinned(self, order: Order) -> RemoteLane | None:
        """Return the backend that may have signed an order in an earlier call."""
        return next((lane for lane in self.remote if lane.intents.holds(order)), None)

    def _offer_pinned(
        self, lane: RemoteLane, order: Order, priority: Priority, waiter: Waiter
    ) -> None:
        now = self._clock()
        obstacle = lane.obstacle(now)
        if obstacle is not None and obstacle.certain:
            text = f"{lane.name} may have signed this already, and is {obstacle.text}"
            raise BackendUnavailable(text, maybe_issued=True)
        lane.offer(_under(order, lane.backend.issuer(now), now), priority, waiter, ())

    def _offer_elsewhere(
        self, order: Order, priority: Priority, waiter: Waiter, route: Route
    ) -> bool:
        now = self._clock()
        for place, name in enumerate(route):
            lane = self._by_name[name]
            if self._is_usable(lane):
                with suppress(Overloaded, NotReady):
                    moved = _under(order, lane.backend.issuer(now), now)
                    lane.offer(moved, priority, waiter, route[place + 1 :])
                    return True
        return False

    def finished(self) -> list[Outcome]:
        """Take what remote backends have answered since the last time."""
        finished, self._finished = self._finished, []
        return finished

    def hand_on(self, ticket: Ticket, error: MeshsignerError) -> bool:
        """Give an order that a backend has failed to the next one.

        Args:
            ticket: Not settled yet.
            error: Why it failed.

        Returns:
            False when there is none, or none may: the error is final.
        """
        failed = self._by_name[ticket.backend]
        failed.failed(error)
        if ticket.abandoned or not _may_go_on(error):
            return False
        now = self._clock()
        failed.orders.settle(ticket)
        for name, rest in self._next(ticket, failed, error, now):
            lane = self._by_name[name]
            with suppress(Overloaded, NotReady):
                ticket.order = _under(ticket.order, lane.backend.issuer(now), now)
                ticket.route = rest
                lane.take_over(ticket)
                if lane is not failed:
                    failed.metrics.handed_on()
                    for waiter in ticket.waiters:
                        waiter.failed_at(failed.name, error)
                return True
        return False

    def _next(
        self, ticket: Ticket, failed: AnyLane, error: MeshsignerError, now: datetime
    ) -> Iterator[tuple[str, Route]]:
        """Yield who may sign an order now: the same one where only its issuer has changed."""
        route = ticket.route
        if isinstance(error, NotReady):
            with suppress(NotReady):
                if failed.backend.issuer(now) is not ticket.order.issuer:
                    yield failed.name, route
        for place, name in enumerate(route):
            obstacle = self._by_name[name].obstacle(now)
            if obstacle is None or not obstacle.certain:
                yield name, route[place + 1 :]

    def take_validity(self, ticket: Ticket, chain: Chain, now: datetime) -> None:
        """Take the validity that a remote CA gave into an order, where that is tolerated.

        Raises:
            WrongCertificate: It is not.
        """
        capabilities = self._by_name[ticket.backend].capabilities
        if capabilities.builds_x509:
            ticket.order = settle_validity(chain, ticket.order, capabilities.leeway, now)

    def signed_wrong(self, ticket: Ticket, wrong: WrongCertificate) -> None:
        """Take it that an order's backend signed something else than was ordered."""
        lane = self._by_name[ticket.backend]
        lane.signed_wrong(wrong)
        if isinstance(lane, RemoteLane):
            lane.dispatcher.end(ticket, recorded=True)  # what came of it is known

    def signed_right(self, checked: Sequence[tuple[Ticket, Chain]]) -> None:
        """Take it that the backends of some orders signed what was ordered."""
        if self._only is not None:
            self._only.signed_right()
            return
        for name in {ticket.backend for ticket, _ in checked}:
            self._by_name[name].signed_right()

    def recorded(self, ticket: Ticket) -> None:
        """Take it that an order's certificate is in the inventory: nobody joins it any more."""
        lane = self._by_name[ticket.backend]
        lane.orders.settle(ticket)
        if isinstance(lane, RemoteLane):
            lane.dispatcher.end(ticket, recorded=True)

    def refused(self, ticket: Ticket) -> None:
        """Take it that an order failed for good: nobody joins it any more."""
        lane = self._by_name[ticket.backend]
        lane.orders.settle(ticket)
        if isinstance(lane, RemoteLane):
            lane.dispatcher.end(ticket, recorded=False)

    def worked(self, orders: int, seconds: float) -> bool:
        """Learn what a turn has cost; tell whether orders are left that need another.

        Args:
            orders: Signed in it.
            seconds: It took.
        """
        left = False
        for lane in self.local:
            lane.orders.worked(orders, seconds)
            left = left or len(lane.orders) > 0
        return left

    def wait_s(self, before: int) -> float:
        """Foretell how long an order for a local backend would wait, seconds.

        Args:
            before: Calls that are on their way to the queues.
        """
        waiting = before + sum(len(lane.orders) for lane in self.local)
        return waiting * max((lane.orders.order_s for lane in self.local), default=0.0)

    # --- beside it -------------------------------------------------------------

    def health(self, route: Route, now: datetime) -> Sequence[Health]:
        """Say of each backend whether it can sign.

        With several backends none of them alone makes a server unable to sign:
        one that cannot is told so, and what decides is whether any of the
        default route can.

        Args:
            route: The default route.
            now: The time.
        """
        healths = {lane.name: lane.health_with(lane.backend.health(now), now) for lane in self._all}
        if len(healths) == 1:
            return tuple(healths.values())
        can = [name for name in route or self._names if healths[name].ready]
        detail = f"by {', '.join(can)}" if can else "no backend of the default route can sign"
        covered = (
            health
            if health.ready
            else replace(health, ready=True, detail=f"CANNOT: {health.detail}")
            for health in healths.values()
        )
        return (Health(name="signing", ready=bool(can), detail=detail), *covered)

    async def aclose(self, ends_s: float) -> None:
        """End all calls.

        Args:
            ends_s: Until when those under way may go on, seconds of the event
                loop's clock.
        """
        for lane in self.remote:
            await lane.dispatcher.aclose(ends_s)

    def _is_usable(self, lane: AnyLane) -> bool:
        now = self._clock()
        try:
            lane.backend.issuer(now)
        except NotReady:
            return False
        return lane.obstacle(now) is None

    def _after(self, backend: str, route: Route) -> Route:
        names = route or self._names
        return names[names.index(backend) + 1 :]

    def _hand_back(self, outcomes: Sequence[Outcome]) -> None:
        self._finished += outcomes
        self._wanted()


def _may_go_on(error: MeshsignerError) -> bool:
    """Tell whether another backend may be asked after an error."""
    if isinstance(error, BackendUnavailable):
        return not error.maybe_issued
    return isinstance(error, ServiceFault | Overloaded) and not isinstance(error, RecordFailed)


def _under(order: Order, issuer: Issuer, now: datetime) -> Order:
    """Turn an order to another issuer.

    Raises:
        NotReady: That issuer has ended.
    """
    if order.issuer is issuer:
        return order
    return replace(order, issuer=issuer, terms=under_issuer(order.terms, issuer.not_after, now))
