"""In which order workers stand on their port."""

from meshsigner.workers.order import PortOrder


def _order(*numbers: int) -> PortOrder:
    order = PortOrder()
    for number in numbers:
        order.joined(number)
    return order


def test_others_by_their_places() -> None:
    """Who ends is left out; the places are the kernel's, not the workers' numbers."""
    assert _order(7, 5, 9).others(5) == (0, 2)


def test_last_fills_the_gap() -> None:
    """As in the kernel, the last takes the place of one that leaves."""
    order = _order(0, 1, 2, 3)
    order.left(1)
    assert order.others(3) == (0, 2)
    order.left(2)
    assert order.others(0) == (1,)


def test_who_never_joined_leaves_nothing_behind() -> None:
    """The end of a worker that did not come to listen changes nothing."""
    order = _order(0, 1)
    order.left(5)
    assert order.others(5) == (0, 1)


def test_last_one_has_no_others() -> None:
    """A lone worker has nobody to hand over to."""
    assert _order(4).others(4) == ()
