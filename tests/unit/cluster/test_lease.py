"""When a lease may be taken, and what is written to take it."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.cluster.lease import NOTES, LeaseState, Seen, claim

STATE = LeaseState(version="7", holder="other", duration_s=9.0, transitions=3, notes="{}")


def test_lease_is_read() -> None:
    """What a Lease says arrives; what it does not say counts as given back."""
    document: dict[str, Any] = {
        "metadata": {"resourceVersion": "7", "annotations": {NOTES: "{}"}},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 9, "leaseTransitions": 3},
    }
    assert LeaseState.parse(document) == STATE
    empty = LeaseState.parse({"metadata": {"resourceVersion": "1"}, "spec": {}})
    assert Seen(state=empty, since_s=0.0).may_be_taken("me", 0.0)


def test_lease_is_taken_after_its_duration_without_a_change() -> None:
    """What counts is how long this process has seen no change, no time that another wrote."""
    seen = Seen(state=STATE, since_s=100.0)
    assert not seen.may_be_taken("me", 108.9)
    assert seen.may_be_taken("me", 109.0)
    renewed = seen.next(replace(STATE, version="8"), 108.0)
    assert not renewed.may_be_taken("me", 116.9)
    assert renewed.may_be_taken("me", 117.0)


def test_same_version_is_no_sign_of_life() -> None:
    """Another look at an unchanged lease does not prolong it."""
    assert Seen(state=STATE, since_s=100.0).next(STATE, 105.0).since_s == 100.0


def test_own_and_returned_lease_is_taken_at_once() -> None:
    """Nobody waits for itself, or for a lease that was given back."""
    assert Seen(state=STATE, since_s=0.0).may_be_taken("other", 0.0)
    assert Seen(state=replace(STATE, holder=""), since_s=0.0).may_be_taken("me", 0.0)


def test_claim_names_the_version_that_it_replaces() -> None:
    """Of two that claim the same state one is refused, by its version."""
    document = claim("lease", "me", 9.0, before=STATE)
    assert document["metadata"]["resourceVersion"] == "7"
    assert document["metadata"]["annotations"] == {NOTES: "{}"}
    assert document["spec"]["leaseTransitions"] == 4
    kept = claim("lease", "other", 9.0, before=STATE, notes="new")
    assert kept["spec"]["leaseTransitions"] == 3
    assert kept["metadata"]["annotations"] == {NOTES: "new"}
    assert "acquireTime" not in kept["spec"]


def test_first_claim_makes_a_lease() -> None:
    """Without a lease there is no version to name."""
    document = claim("lease", "me", 0.4, before=None)
    assert "resourceVersion" not in document["metadata"]
    assert document["spec"]["leaseDurationSeconds"] == 1


@given(
    began_s=st.floats(0, 1e6),
    request_s=st.floats(0, 60),
    look_s=st.floats(0, 60),
    duration_s=st.floats(4, 15),
)
def test_holder_stops_before_anybody_may_take(
    began_s: float, request_s: float, look_s: float, duration_s: float
) -> None:
    """Whatever the delays: others count from after the write, its holder from before it."""
    written_s = began_s + request_s
    seen = Seen(state=replace(STATE, duration_s=duration_s), since_s=written_s + look_s)
    holder_ends_s = began_s + 0.9 * duration_s
    assert not seen.may_be_taken("me", holder_ends_s)
