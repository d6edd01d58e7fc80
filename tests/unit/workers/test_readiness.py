"""When a server of several workers is ready."""

import pytest

from meshsigner.model import Health
from meshsigner.workers.readiness import Standing, judge

GOOD = Health(name="issuer", ready=True, detail="root")
BAD = Health(name="inventory", ready=False, detail="the disk is full")


def _serving(number: int, *parts: Health) -> Standing:
    return Standing(number=number, serving=True, detail="serving", parts=parts or (GOOD,))


def _down(number: int) -> Standing:
    return Standing(number=number, serving=False, detail="started again within 2 s")


@pytest.mark.parametrize(
    ("standings", "ready"),
    [
        ([_serving(0), _serving(1)], True),
        ([_serving(0), _down(1)], True),
        ([_down(0), _down(1)], False),
        ([_serving(0), _serving(1, GOOD, BAD)], False),
        ([_serving(0, BAD), _down(1)], False),
        ([], False),
    ],
)
def test_ready_while_one_serves_and_none_that_serves_is_unable(
    standings: list[Standing],
    ready: bool,  # noqa: FBT001
) -> None:
    """A worker that is down gets no connections; one that is up and unable fails them."""
    assert judge(standings, complete=True, draining=False).ready is ready


def test_not_before_all_have_come_up_once() -> None:
    """A server that is starting is not ready with the first of its workers."""
    assert not judge([_serving(0)], complete=False, draining=False).ready


def test_not_while_it_ends() -> None:
    """A server that drains is not ready, and says why."""
    verdict = judge([_serving(0)], complete=True, draining=True)
    assert not verdict.ready
    assert verdict.parts[-1].detail == "draining: the process is ending"


def test_parts_are_named_after_their_worker() -> None:
    """Every part of every worker is told, and each worker, and the whole."""
    verdict = judge([_serving(0, BAD), _down(3)], complete=True, draining=False)
    told = [(part.name, part.ready, part.detail) for part in verdict.parts]
    assert told == [
        ("worker 0", True, "serving"),
        ("worker 0, inventory", False, "the disk is full"),
        ("worker 3", False, "started again within 2 s"),
        ("server", False, "1 of 2 workers serve"),
    ]
