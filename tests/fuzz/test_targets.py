"""Each fuzz target for a moment, from its seeds; `make fuzz` runs them for longer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutation import mutated
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

SEEDS = seeds()
each_target = pytest.mark.parametrize("name", sorted(TARGETS))


def test_every_target_has_seeds() -> None:
    """No target starts from nothing, and no seed is without a target."""
    assert set(SEEDS) == set(TARGETS)
    assert all(SEEDS.values())


@each_target
def test_seeds_are_read_or_refused(name: str) -> None:
    """Every seed is read, or refused by a documented error."""
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@each_target
@given(data=st.data())
def test_changed_seeds_are_read_or_refused(name: str, data: st.DataObject) -> None:
    """Every change of a seed is read, or refused by a documented error."""
    seed = data.draw(st.sampled_from(SEEDS[name]))
    TARGETS[name](data.draw(mutated(seed)))


@each_target
@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    """Any bytes are read, or refused by a documented error."""
    TARGETS[name](data)
