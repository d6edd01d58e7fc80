"""Orders: joining, priorities, fair shares, bounds and the shedding rule."""

import asyncio
import dataclasses
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsigner.csr import parse_csr
from meshsigner.errors import Overloaded
from meshsigner.model import Chain, Order
from meshsigner.orders import OrderQueue, QueueLimits, Seen, order_key
from meshsigner.policy import authorize
from meshsigner.waiting import Priority
from tests.fakes.pipeline import NOW, FakeSigner, make_caller, make_csr, make_policy

_SIGNER = FakeSigner()
_REQUEST = parse_csr(make_csr(ec.generate_private_key(ec.SECP256R1())))


def _order(namespace: str = "foo", pod: str = "", *, at: timedelta = timedelta()) -> Order:
    caller = make_caller(namespace, "bar", pod)
    terms = authorize(
        caller=caller,
        request=_REQUEST,
        asked_lifetime=timedelta(hours=24),
        policy=make_policy(),
        now=NOW + at,
        issuer_not_after=NOW + timedelta(days=300),
    )
    return Order(
        caller=caller,
        request=_REQUEST,
        terms=terms,
        cert_signer="",
        issuer=_SIGNER.current,
        peer="",
    )


class _Waiter:
    """Waits until it is cancelled."""

    def __init__(self) -> None:
        self.gone = False

    def done(self) -> bool:
        return self.gone

    deadline_s = 10.0

    def succeed(self, chain: Chain, order: Order) -> None:
        raise AssertionError(chain, order)

    def failed_at(self, backend: str, error: BaseException) -> None:
        raise AssertionError(backend, error)

    def fail(self, error: BaseException) -> None:
        raise AssertionError(error)


def _offer(queue: OrderQueue, order: Order, priority: Priority = Priority.FIRST) -> bool:
    return queue.offer(order, order_key(order), priority, _Waiter())


async def test_equal_orders_in_flight_are_one() -> None:
    """The second caller joins, also while the order is being signed; both get the answer."""
    queue = OrderQueue(QueueLimits())
    order = _order()
    assert not _offer(queue, order)
    assert _offer(queue, order)
    (ticket,) = queue.take(10)
    assert _offer(queue, order)
    assert len(ticket.waiters) == 3


async def test_a_finished_order_is_not_used_again() -> None:
    """After the answer an equal order is signed anew, with a serial of its own."""
    queue = OrderQueue(QueueLimits())
    order = _order()
    _offer(queue, order)
    queue.settle(queue.take(1)[0])
    assert not _offer(queue, order)


@pytest.mark.parametrize(
    "change",
    [
        {"caller": make_caller(pod="another")},
        {"cert_signer": "another"},
        {"request": dataclasses.replace(_REQUEST, csr_sha256=b"another")},
        {"terms": dataclasses.replace(_order().terms, policy_generation=2)},
        {"issuer": dataclasses.replace(_SIGNER.current, generation=2)},
    ],
)
def test_orders_that_differ_in_anything_are_different(change: dict[str, object]) -> None:
    """Another caller, CSR, signer, policy or issuer makes another order."""
    changed = dataclasses.replace(_order(), **change)  # type: ignore[arg-type]
    assert order_key(changed) != order_key(_order())


async def test_first_issuance_comes_before_renewals() -> None:
    """Whatever the order of arrival, pods without certificate are signed first."""
    queue = OrderQueue(QueueLimits())
    for pod, priority in (
        ("half-life", Priority.RENEWAL),
        ("ending", Priority.EXPIRING),
        ("new", Priority.FIRST),
    ):
        _offer(queue, _order(pod=pod), priority)
    assert [t.order.caller.pod_name for t in queue.take(3)] == ["new", "ending", "half-life"]


async def test_namespaces_take_turns() -> None:
    """One namespace with many orders does not make another wait for all of them."""
    queue = OrderQueue(QueueLimits())
    for pod in range(5):
        _offer(queue, _order("crashing", f"c{pod}"))
    _offer(queue, _order("quiet", "q"))
    taken = [t.order.terms.identity.namespace for t in queue.take(6)]
    assert taken.index("quiet") == 1
    assert len(queue) == 0


async def test_orders_that_everybody_gave_up_are_not_signed() -> None:
    """Cancelled callers' orders are dropped; a join keeps an order alive."""
    queue = OrderQueue(QueueLimits())
    gone, kept = _order(pod="gone"), _order(pod="kept")
    for order in (gone, kept):
        waiter = _Waiter()
        queue.offer(order, order_key(order), Priority.FIRST, waiter)
        waiter.gone = True
    _offer(queue, kept)
    assert [t.order.caller.pod_name for t in queue.take(5)] == ["kept"]
    assert not _offer(queue, gone), "a dropped order must not be joined"


@pytest.mark.parametrize(
    ("limits", "bound"),
    [
        (QueueLimits(total=2), "queue_total"),
        (QueueLimits(per_namespace=2), "queue_namespace"),
        (QueueLimits(per_caller=2), "queue_caller"),
    ],
)
async def test_each_bound_refuses_one_more_and_recovers(limits: QueueLimits, bound: str) -> None:
    """One order above a bound is shed; once others are taken there is room again."""
    queue = OrderQueue(limits)
    for hour in range(2):
        _offer(queue, _order(pod="p", at=timedelta(hours=hour)))
    with pytest.raises(Overloaded) as shed:
        _offer(queue, _order(pod="p", at=timedelta(hours=5)))
    assert shed.value.what == bound
    queue.take(1)
    _offer(queue, _order(pod="p", at=timedelta(hours=5)))


async def test_a_long_wait_sheds_at_arrival() -> None:
    """With 10 ms an order, the order that would wait more than the bound is refused."""
    queue = OrderQueue(QueueLimits(wait_s=0.05))
    queue.worked(10, 0.1)
    for pod in range(6):
        _offer(queue, _order(pod=f"p{pod}"))
    with pytest.raises(Overloaded) as shed:
        _offer(queue, _order(pod="late"))
    assert shed.value.what == "queue_wait"
    queue.take(2)
    _offer(queue, _order(pod="late"))


def test_the_pod_tells_first_issuance_from_renewal() -> None:
    """Pods of one service account are each first once; a held certificate makes a renewal."""
    seen = Seen()
    assert seen.priority(_order(pod="one")) is Priority.FIRST
    seen.remember(_order(pod="one"))
    assert seen.priority(_order(pod="one", at=timedelta(hours=12))) is Priority.RENEWAL
    assert seen.priority(_order(pod="one", at=timedelta(hours=23))) is Priority.EXPIRING
    assert seen.priority(_order(pod="one", at=timedelta(hours=25))) is Priority.FIRST
    assert seen.priority(_order(pod="two")) is Priority.FIRST


def test_the_oldest_are_forgotten() -> None:
    """Memory is bounded; who is forgotten counts as first again."""
    seen = Seen(capacity=2)
    for pod in ("one", "two", "three"):
        seen.remember(_order(pod=pod))
    assert seen.priority(_order(pod="one")) is Priority.FIRST
    assert seen.priority(_order(pod="three")) is Priority.RENEWAL


@settings(max_examples=100, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.sampled_from(Priority)),
        max_size=60,
    ),
    takes=st.lists(st.integers(1, 7), max_size=40),
)
def test_every_order_is_taken_exactly_once(
    arrivals: list[tuple[str, int, Priority]], takes: list[int]
) -> None:
    """However offers and takes are mixed, nothing is lost, doubled or miscounted."""

    async def play() -> None:
        queue = OrderQueue(QueueLimits())
        offered, taken = set(), []
        for namespace, pod, priority in arrivals:
            order = _order(namespace, f"{namespace}{pod}")
            if not _offer(queue, order, priority):
                offered.add(order_key(order))
            if takes:
                taken += queue.take(takes.pop())
        taken += queue.take(1_000)
        assert len(queue) == 0
        assert sorted(map(str, (t.key for t in taken))) == sorted(map(str, offered))

    asyncio.run(play())
