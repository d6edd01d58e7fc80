"""Which Secret makes which remote cluster."""

import base64
from typing import Any

import pytest

from meshsigner.authn.remote_secrets import (
    MAX_KUBECONFIG_BYTES,
    Kubeconfigs,
    choose,
    kubeconfigs_of,
)
from meshsigner.kube import ObjectKey

A, B = ObjectKey("istio-system", "a"), ObjectKey("istio-system", "b")


def decide(
    secrets: dict[ObjectKey, dict[str, bytes]], in_use: dict[str, ObjectKey] | None = None
) -> tuple[dict[str, bytes], list[str]]:
    """Choose where two and three are allowed, and Kubernetes is configured."""
    wanted, problems = choose(
        {key: Kubeconfigs(by_id=by_id) for key, by_id in secrets.items()},
        allowed={"two", "three"},
        configured={"Kubernetes", "", "alias"},
        in_use=in_use or {},
    )
    return {name: found.data for name, found in wanted.items()}, problems


def test_a_secret_may_hold_several_clusters() -> None:
    """Each key is a cluster id, as istiod has it."""
    assert decide({A: {"two": b"2", "three": b"3"}}) == ({"two": b"2", "three": b"3"}, [])
    assert decide({A: {"two": b"2"}, B: {"three": b"3"}})[0] == {"two": b"2", "three": b"3"}
    assert decide({}) == ({}, [])


@pytest.mark.parametrize("taken", ["Kubernetes", "alias", ""])
def test_statement_37_no_secret_takes_the_place_of_a_configured_cluster(taken: str) -> None:
    """Neither by its id nor by an alias, nor as the cluster of those who name none."""
    wanted, (problem,) = decide({A: {taken: b"x", "two": b"2"}})
    assert wanted == {"two": b"2"}
    assert "istio-system/a" in problem
    assert "no Secret can take its place" in problem


def test_statement_37_an_id_that_nobody_allowed_is_refused() -> None:
    """Who may write Secrets does not say whom the server believes."""
    wanted, (problem,) = decide({A: {"four\n" * 100: b"4"}})
    assert wanted == {}
    assert "not among remote_clusters.allowed" in problem
    assert "\n" not in problem
    assert len(problem) < 300


def test_of_two_secrets_the_one_in_use_stays() -> None:
    """Nobody takes a cluster over by adding a Secret, whatever its name."""
    both = {A: {"two": b"a"}, B: {"two": b"b"}}
    wanted, (problem,) = decide(both)
    assert wanted == {"two": b"a"}
    assert problem == "Secret istio-system/b: cluster 'two' is in Secret a as well, which is used"
    assert decide(both, {"two": B})[0] == {"two": b"b"}
    assert decide({A: {"two": b"a"}}, {"two": B}) == ({"two": b"a"}, [])


def test_a_kubeconfig_has_a_bound() -> None:
    """Reading YAML is slow, and somebody else writes it."""
    wanted, (problem,) = decide({A: {"two": b"x" * (MAX_KUBECONFIG_BYTES + 1)}})
    assert wanted == {}
    assert "longer than 64 KiB" in problem


def test_what_is_kept_of_a_secret_is_never_shown() -> None:
    """A kubeconfig holds a credential."""
    encoded = base64.b64encode(b"SECRET").decode()
    kept = kubeconfigs_of({"metadata": {}, "data": {"two": encoded}})
    assert kept.by_id == {"two": b"SECRET"}
    assert "SECRET" not in repr(kept)
    wanted, _ = choose({A: kept}, allowed={"two"}, configured=(), in_use={})
    assert "SECRET" not in repr(wanted)
    assert kubeconfigs_of({"metadata": {}, "data": None}).by_id == {}


@pytest.mark.parametrize("data", [{"two": "?"}, {"two": "é"}, {"two": 1}, [1]])
def test_a_secret_that_is_none_is_left_out(data: Any) -> None:
    """The watch takes these errors for an object that cannot be read."""
    with pytest.raises((ValueError, TypeError)):
        kubeconfigs_of({"metadata": {}, "data": data})
