"""Which place a worker takes, and how large its inventory may grow."""

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.workers.slots import at_rest, bound_of, free_slot

MIB = 1024**2


def test_lowest_free_place() -> None:
    """Places are used again, so that files do not multiply."""
    assert free_slot(set()) == 0
    assert free_slot({0, 1}) == 2
    assert free_slot({0, 2}) == 1


def test_files_at_rest_are_those_of_nobody() -> None:
    """A file counts as it is only while no worker may let it grow."""
    assert at_rest({0: 5, 1: 6, 7: 8}, {0, 1}) == [8]


def test_first_worker_gets_a_share_of_what_is_left() -> None:
    """Two workers and the one that replaces: three shares, on top of what a file has already."""
    bound = bound_of(4 * MIB, in_use=[], at_rest=[2 * MIB], max_bytes=12 * MIB, workers=2)
    assert bound == 6 * MIB


def test_full_inventory_leaves_no_room() -> None:
    """Where nothing is left a file may not grow, however small it is."""
    assert bound_of(MIB, in_use=[20 * MIB], at_rest=[], max_bytes=10 * MIB, workers=2) == MIB


class _Inventory:
    """Files that workers fill up to their bounds, as they come and go."""

    def __init__(self, max_bytes: int, workers: int) -> None:
        self.max_bytes = max_bytes
        self.workers = workers
        self.sizes: dict[int, int] = {}
        self.bounds: dict[int, int] = {}

    def start(self) -> None:
        number = free_slot(set(self.bounds))
        self.bounds[number] = bound_of(
            self.sizes.get(number, 0),
            in_use=list(self.bounds.values()),
            at_rest=at_rest(self.sizes, {*self.bounds, number}),
            max_bytes=self.max_bytes,
            workers=self.workers,
        )

    def end(self, which: int, filled: float) -> None:
        number = sorted(self.bounds)[which % len(self.bounds)]
        bound, size = self.bounds.pop(number), self.sizes.get(number, 0)
        self.sizes[number] = max(size, int(bound * filled))


STEPS = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), max_size=40)


@given(st.integers(0, 10**12), st.integers(1, 8), STEPS)
def test_bounds_hold_in_sum(max_bytes: int, workers: int, steps: list[tuple[int, float]]) -> None:
    """However workers come, fill their files and go, all together stay within the bound."""
    inventory = _Inventory(max_bytes, workers)
    for which, filled in steps:
        if len(inventory.bounds) > workers or (which % 3 == 0 and inventory.bounds):
            inventory.end(which, filled)
        else:
            inventory.start()
        resting = at_rest(inventory.sizes, set(inventory.bounds))
        assert sum(inventory.bounds.values()) + sum(resting) <= max_bytes


@given(st.integers(1, 8))
def test_every_worker_gets_about_the_same(workers: int) -> None:
    """Workers that start on an empty inventory have equal shares, and one is left over."""
    inventory = _Inventory(90 * MIB, workers)
    for _ in range(workers):
        inventory.start()
    shares = inventory.bounds.values()
    assert max(shares) - min(shares) <= workers
    assert min(shares) >= 90 * MIB // (workers + 1)
