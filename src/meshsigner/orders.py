"""Orders in flight: who waits for which certificate, and whose is signed next.

Decides that equal orders in flight share one certificate, what is first and
what a renewal, and who is shed when the wait grows too long. Who of those that
wait goes next is `waiting`'s matter. Sheds by one rule, at arrival: the wait
that this very order has to expect, behind those that go before it.

Source: docs/ARCHITECTURE.md, "Overload".
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from meshsigner.errors import Overloaded
from meshsigner.model import Chain, Order
from meshsigner.waiting import Place, Priority, WaitingLine

_SMOOTHING = 0.2  # weight of the newest turn in the mean cost of an order


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """Bounds of the order queue.

    Attributes:
        total: Most orders that wait.
        per_namespace: Most of one namespace.
        per_caller: Most of one caller (one pod, one ztunnel).
        wait_s: Longest expected wait, seconds: istio-agent spends its five
            attempts within about 1.5 s and then reconnects, which costs more.
    """

    total: int = 20_000
    per_namespace: int = 10_000
    per_caller: int = 1_000
    wait_s: float = 1.0


class Waiter(Protocol):
    """Somebody who waits for an order."""

    @property
    def deadline_s(self) -> float:
        """When it waits no longer, in seconds of the event loop's clock."""
        ...

    def done(self) -> bool:
        """Return whether it is answered, or gone."""
        ...

    def succeed(self, chain: Chain, order: Order) -> None:
        """Answer with a chain for an order, unless it is done.

        The order may be on other terms than the one that was offered: another
        backend's issuer may end sooner.
        """
        ...

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless it is done."""
        ...

    def failed_at(self, backend: str, error: BaseException) -> None:
        """Take it that a backend failed, and another one is asked."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """An order in flight and everybody who waits for it.

    Attributes:
        order: What is to be signed.
        key: Equal for equal orders.
        priority: Its place.
        waiters: One a call.
        backend: Whose queue it is in, or was taken from.
        route: Names of the backends that come after that one, in order.
        token: Of the errand that was last sent to a remote backend, else empty.
        since_s: When it came into this queue, in seconds of the event loop's
            clock; 0 where nobody asks.
    """

    order: Order
    key: Hashable
    priority: Priority
    waiters: list[Waiter] = field(default_factory=list)
    backend: str = ""
    route: tuple[str, ...] = ()
    token: str = ""
    since_s: float = 0.0

    @property
    def abandoned(self) -> bool:
        """True when nobody waits any more."""
        return all(waiter.done() for waiter in self.waiters)

    @property
    def deadline_s(self) -> float:
        """When nobody waits any longer, in seconds of the event loop's clock."""
        return max((w.deadline_s for w in self.waiters if not w.done()), default=0.0)


class Seen:
    """Remembers who has been certified, bounded, to tell first issuance from renewal.

    A SPIFFE ID alone says nothing: all pods of a Deployment share it. What
    counts is the pod, or the identity where a credential names no pod; for a
    node's agent that acts for others, each identity on its node.

    Args:
        capacity: Most entries; the oldest are forgotten, and are first again.
    """

    _NEAR_EXPIRY = 0.25  # of the lifetime

    def __init__(self, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._until: OrderedDict[tuple[str, str], tuple[datetime, datetime]] = OrderedDict()

    def priority(self, order: Order) -> Priority:
        """Rank an order by what its subject already holds."""
        held = self._until.get(self._subject(order))
        now = order.terms.not_before
        if held is None or held[1] <= now:
            return Priority.FIRST
        not_before, not_after = held
        left = (not_after - now) / (not_after - not_before)
        return Priority.EXPIRING if left < self._NEAR_EXPIRY else Priority.RENEWAL

    def remember(self, order: Order) -> None:
        """Note that an order was signed and recorded."""
        subject = self._subject(order)
        self._until[subject] = (order.terms.not_before, order.terms.not_after)
        self._until.move_to_end(subject)
        if len(self._until) > self._capacity:
            self._until.popitem(last=False)

    @staticmethod
    def _subject(order: Order) -> tuple[str, str]:
        caller, identity = order.caller, order.terms.identity
        if identity == caller.identity:
            return caller.cluster, caller.pod_uid or identity.uri
        return caller.cluster, f"{caller.node_name or caller.pod_uid} {identity.uri}"


class OrderQueue:
    """The orders that wait for the signer, and those it works on.

    Args:
        limits: Bounds.
        backend: Name of the backend that signs them.

    Attributes:
        least_order_s: What an order costs at least, whatever was learnt, seconds.
    """

    def __init__(self, limits: QueueLimits, backend: str = "") -> None:
        self._limits = limits
        self._backend = backend
        self.least_order_s = 0.0
        self._in_flight: dict[Hashable, Ticket] = {}
        self._line = WaitingLine[Ticket]()
        self._held_by: Counter[tuple[str, ...]] = Counter()
        self._order_s = 0.0

    def __len__(self) -> int:
        """Count the orders that wait to be signed."""
        return len(self._line)

    def offer(
        self,
        order: Order,
        key: Hashable,
        priority: Priority,
        waiter: Waiter,
        *,
        route: tuple[str, ...] = (),
        since_s: float = 0.0,
        patience_s: float | None = None,
    ) -> bool:
        """Put an order in its place, or join it to an equal one in flight.

        Args:
            order: What is to be signed.
            key: Equal for equal orders.
            priority: Its place.
            waiter: Gets the chain or the error.
            route: Backends that come after this one.
            since_s: The time, in seconds of the event loop's clock, where the
                wait in this queue is of interest.
            patience_s: Longest expected wait; the queue's own bound by default.

        Returns:
            True when it joined another.

        Raises:
            Overloaded: A bound is met, or the wait would be too long.
        """
        joined = self._in_flight.get(key)
        if joined is not None:
            joined.waiters.append(waiter)
            return True
        self._admit(order, priority, patience_s)
        ticket = Ticket(
            order=order,
            key=key,
            priority=priority,
            waiters=[waiter],
            backend=self._backend,
            route=route,
            since_s=since_s,
        )
        self._place(ticket)
        return False

    def take_over(self, ticket: Ticket, patience_s: float | None = None) -> None:
        """Put an order in its place that another queue has given up.

        Its waiters join an equal one in flight here, if there is one.

        Args:
            ticket: Settled there; its order and key are those for this backend.
            patience_s: Longest expected wait; the queue's own bound by default.

        Raises:
            Overloaded: A bound is met, or the wait would be too long.
        """
        joined = self._in_flight.get(ticket.key)
        if joined is not None:
            joined.waiters += ticket.waiters
            return
        self._admit(ticket.order, ticket.priority, patience_s)
        ticket.backend = self._backend
        self._place(ticket)

    def take(self, most: int) -> list[Ticket]:
        """Take the next orders to sign, without those that everybody gave up.

        Args:
            most: No more than these.
        """
        taken: list[Ticket] = []
        while self._line and len(taken) < most:
            ticket = self._line.pop()
            self._count(ticket.order, -1)
            if ticket.abandoned:
                self.settle(ticket)
            else:
                taken.append(ticket)
        return taken

    def take_all(self, wanted: Callable[[Ticket], bool]) -> list[Ticket]:
        """Take every waiting order that a condition is true of; looks at all of them.

        Args:
            wanted: The condition.
        """
        if not any(map(wanted, self._line)):
            return []
        taken: list[Ticket] = []
        for _ in range(len(self._line)):
            ticket = self._line.pop()
            self._count(ticket.order, -1)
            taken.append(ticket)
        for ticket in taken:
            if not wanted(ticket):
                self._place(ticket)
        return [ticket for ticket in taken if wanted(ticket)]

    def settle(self, ticket: Ticket) -> None:
        """Let nobody join any more: the order is answered, refused or given up."""
        if self._in_flight.get(ticket.key) is ticket:
            del self._in_flight[ticket.key]

    def worked(self, orders: int, seconds: float) -> None:
        """Learn what an order costs, for the wait to be expected."""
        if orders:
            mean = seconds / orders
            known = self._order_s or mean
            self._order_s = known + _SMOOTHING * (mean - known)

    @property
    def expected_wait_s(self) -> float:
        """How long an order would wait that goes behind all others, seconds."""
        return len(self._line) * self.order_s

    @property
    def order_s(self) -> float:
        """What an order costs of the time between turns, seconds; 0 while not known."""
        return max(self._order_s, self.least_order_s)

    def _place(self, ticket: Ticket) -> None:
        self._in_flight[ticket.key] = ticket
        self._line.push(ticket, _place_of(ticket.order, ticket.priority))
        self._count(ticket.order, 1)

    def _admit(self, order: Order, priority: Priority, patience_s: float | None) -> None:
        limits = self._limits
        if len(self._line) >= limits.total:
            raise Overloaded("queue_total")
        namespace, caller = self._holders(order)
        if self._held_by[namespace] >= limits.per_namespace:
            raise Overloaded("queue_namespace")
        if self._held_by[caller] >= limits.per_caller:
            raise Overloaded("queue_caller")
        ahead = self._line.ahead_of(_place_of(order, priority)) if self._line else 0
        if ahead * self.order_s > (limits.wait_s if patience_s is None else patience_s):
            raise Overloaded("queue_wait")

    def _count(self, order: Order, change: int) -> None:
        for holder in self._holders(order):
            self._held_by[holder] += change
            if not self._held_by[holder]:
                del self._held_by[holder]

    @staticmethod
    def _holders(order: Order) -> tuple[tuple[str], tuple[str, str]]:
        """Name the namespace and the caller that an order counts against."""
        caller = order.caller
        return (
            (order.terms.identity.namespace,),
            (caller.cluster, caller.pod_uid or caller.identity.uri),
        )


def _place_of(order: Order, priority: Priority) -> Place:
    """Say with whom an order takes turns.

    The pods of one account share a turn; an agent that asks for others has its own.
    """
    identity, caller = order.terms.identity, order.caller
    asker = identity.uri if identity == caller.identity else f"{caller.pod_uid} {caller.node_name}"
    return Place(priority, identity.namespace, asker)


def order_key(order: Order) -> Hashable:
    """Make equal orders equal: who asks for what, on which terms, under which rules."""
    caller, terms = order.caller, order.terms
    return (
        caller.cluster,
        caller.identity.uri,
        caller.credential_id,
        caller.pod_uid,
        caller.auth_method,
        terms.identity.uri,
        order.request.csr_sha256,
        order.cert_signer,
        terms.not_before,
        terms.not_after,
        terms.policy_generation,
        order.issuer.generation,
    )
