"""What must come before what when the roots change."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.cluster.order import History, change_faults, may_present, root_id
from tests.fakes.pipeline import NOW, make_ca_certificate

SETTLE = timedelta(minutes=2)
LONGEST = timedelta(hours=24)
HOUR = timedelta(hours=1)


def _published(*bundle: str, history: History | None = None, hours: float = 0) -> History:
    return (history or History()).published(bundle, NOW + hours * HOUR)


def test_root_is_named_by_subject_and_key() -> None:
    """A renewed root of the same key is the same root, another key of the same name is not."""
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    one, renewed = (
        make_ca_certificate(key, "mesh", not_after=NOW + timedelta(days=days)) for days in (9, 99)
    )
    assert root_id(one) == root_id(renewed)
    assert root_id(one) != root_id(make_ca_certificate(other, "mesh"))


def test_statement_60_certificate_waits_for_its_root() -> None:
    """Nothing chains to a root that is not everywhere, or has not been for long enough."""
    history = _published("old")
    assert not may_present(history, "new", NOW + LONGEST, SETTLE)
    history = _published("old", "new", history=history, hours=1)
    assert not may_present(history, "new", NOW + HOUR + SETTLE - timedelta(seconds=1), SETTLE)
    assert may_present(history, "new", NOW + HOUR + SETTLE, SETTLE)
    assert may_present(history, "old", NOW + SETTLE, SETTLE)


def test_publishing_again_changes_no_time() -> None:
    """What stands everywhere is noted once."""
    first = _published("old", "new")
    assert _published("old", "new", history=first, hours=5) == first


@pytest.mark.parametrize(("hours", "faults"), [(0, 1), (23.9, 1), (24, 0)])
def test_statement_61_new_root_signs_after_every_leaf_was_renewed(
    hours: float, faults: int
) -> None:
    """A root that has not stood everywhere for the longest lifetime does not sign yet."""
    history = _published("old", "new")
    found = list(
        change_faults(history, ("old", "new"), ("new", "old"), NOW + hours * HOUR, LONGEST)
    )
    assert len(found) == faults


def test_statement_61_unpublished_root_does_not_sign() -> None:
    """Announced and switched in one step is too early at any time."""
    (fault,) = change_faults(_published("old"), ("old",), ("new", "old"), NOW + LONGEST, LONGEST)
    assert "not everywhere in the cluster yet" in fault


@pytest.mark.parametrize(("hours", "faults"), [(0, 1), (23.9, 1), (24, 0)])
def test_statement_61_old_root_stays_until_its_last_leaf_has_ended(
    hours: float, faults: int
) -> None:
    """A root goes once it has not signed for the longest lifetime."""
    history = _published("new", "old", history=_published("old", "new"), hours=30)
    now = NOW + (30 + hours) * HOUR
    assert len(list(change_faults(history, ("new", "old"), ("new",), now, LONGEST))) == faults


def test_root_that_signs_is_never_dropped() -> None:
    """However long ago it was published."""
    history = _published("old", "new")
    faults = list(change_faults(history, ("old", "new"), ("new",), NOW + 99 * LONGEST, LONGEST))
    (fault,) = faults
    assert "drops a root that signs" in fault


def test_root_that_never_signed_may_go() -> None:
    """Who announced a root and thought better of it drops it at once."""
    history = _published("old", "new")
    assert list(change_faults(history, ("old", "new"), ("old",), NOW, LONGEST)) == []


def test_way_back_is_open() -> None:
    """The old root signs again at once: everybody trusts it still."""
    history = _published("new", "old", history=_published("old", "new"), hours=30)
    now = NOW + 31 * HOUR
    assert list(change_faults(history, ("new", "old"), ("old", "new"), now, LONGEST)) == []
    back = _published("old", "new", history=history, hours=31)
    assert back.roots["old"].retired is None
    assert back.roots["new"].retired == now


def test_notes_are_read_as_they_were_written() -> None:
    """The next leader knows what the last one knew."""
    history = _published("new", "old", history=_published("old", "new"), hours=30)
    assert History.parse(history.render()) == history


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"roots": {"a": 1}, "active": ""}', "x"])
def test_notes_of_somebody_else_are_nothing(text: str) -> None:
    """What cannot be read is observed anew."""
    assert History.parse(text) == History()
