"""How long and how many answers about tokens are remembered."""

import pytest

from meshsigner.authn.verdicts import Verdicts
from meshsigner.errors import Unauthenticated
from meshsigner.model import AuthMethod, Caller
from meshsigner.spiffe import TrustDomain, WorkloadId

TD = TrustDomain.parse("cluster.local")


def caller(name: str) -> Caller:
    """Return a caller of this name."""
    identity = WorkloadId.of(TD, "foo", name)
    return Caller(identity=identity, cluster="Kubernetes", auth_method=AuthMethod.JWT)


def test_a_caller_is_known_until_its_time_is_over() -> None:
    """At the stated second it is forgotten."""
    verdicts = Verdicts(10)
    verdicts.accept(b"a", caller("a"), 100.0)
    assert verdicts.recall(b"a", 99.9) == caller("a")
    assert verdicts.recall(b"a", 100.0) is None
    assert verdicts.recall(b"b", 0.0) is None


def test_a_refusal_stands_until_its_time_is_over() -> None:
    """Its cause is told again, then nothing is known."""
    verdicts = Verdicts(10)
    verdicts.refuse(b"a", "because", 100.0)
    with pytest.raises(Unauthenticated, match="because"):
        verdicts.recall(b"a", 99.9)
    assert verdicts.recall(b"a", 100.0) is None
    assert verdicts.recall(b"a", 100.1) is None


def test_the_last_word_counts() -> None:
    """A later answer replaces an earlier one of the other kind."""
    verdicts = Verdicts(10)
    verdicts.accept(b"a", caller("a"), 100.0)
    verdicts.refuse(b"a", "deleted", 100.0)
    with pytest.raises(Unauthenticated, match="deleted"):
        verdicts.recall(b"a", 1.0)
    verdicts.accept(b"a", caller("a"), 100.0)
    assert verdicts.recall(b"a", 1.0) == caller("a")


def test_the_least_recently_used_are_forgotten_first() -> None:
    """A store keeps its capacity and no more; asking for an answer keeps it."""
    verdicts = Verdicts(2)
    verdicts.accept(b"a", caller("a"), 100.0)
    verdicts.accept(b"b", caller("b"), 100.0)
    verdicts.recall(b"a", 1.0)
    verdicts.accept(b"c", caller("c"), 100.0)
    assert verdicts.recall(b"a", 1.0) == caller("a")
    assert verdicts.recall(b"b", 1.0) is None
    assert verdicts.recall(b"c", 1.0) == caller("c")


def test_a_flood_of_bad_tokens_displaces_no_good_one() -> None:
    """Refusals have their own bound."""
    verdicts = Verdicts(2)
    verdicts.accept(b"a", caller("a"), 100.0)
    for n in range(100):
        verdicts.refuse(b"%d" % n, "bad", 100.0)
    assert verdicts.recall(b"a", 1.0) == caller("a")
    assert verdicts.recall(b"97", 1.0) is None
    for digest in [b"98", b"99"]:
        with pytest.raises(Unauthenticated):
            verdicts.recall(digest, 1.0)


def test_everything_can_be_forgotten() -> None:
    """When keys change nothing that was found out with them holds."""
    verdicts = Verdicts(2)
    verdicts.accept(b"a", caller("a"), 100.0)
    verdicts.refuse(b"b", "bad", 100.0)
    verdicts.clear()
    assert verdicts.recall(b"a", 1.0) is None
    assert verdicts.recall(b"b", 1.0) is None
