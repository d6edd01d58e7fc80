"""Tests of which CA may follow another while workloads go on trusting each other."""

from meshsigner.model import Issuer, TrustBundle
from meshsigner.trust.succession import succession_faults
from tests.fakes.authority import Ca, Shape, make_ca, make_key

A, B = make_ca("a"), make_ca("b")


def under(*roots: Ca) -> Issuer:
    """Return a CA with these roots, the first in use."""
    return Issuer(
        certificate=make_ca("issuer", issuer=roots[0]).certificate,
        intermediates=(),
        trust_bundle=TrustBundle(certificates=tuple(root.certificate for root in roots), pem=""),
        chain_pem=(),
        generation=1,
    )


def faults(old: Issuer, new: Issuer) -> list[str]:
    """Return the first words of each fault."""
    found = succession_faults(old.trust_bundle.certificates, new.trust_bundle.certificates)
    return [" ".join(fault.split()[:4]) for fault in found]


def test_same_root() -> None:
    """Another intermediate under the same root needs nothing."""
    assert faults(under(A), under(A)) == []


def test_steps_of_a_root_change() -> None:
    """Announce, switch, drop: none of the three cuts anybody off."""
    assert faults(under(A), under(A, B)) == []
    assert faults(under(A, B), under(B, A)) == []
    assert faults(under(B, A), under(B)) == []


def test_unannounced_root() -> None:
    """A root may not sign before it was in the bundle."""
    assert faults(under(A), under(B, A)) == ["its root 'CN=b' was"]


def test_dropped_root() -> None:
    """A root may not go in the step in which it stops signing."""
    assert faults(under(A, B), under(B)) == ["it drops the root"]


def test_renewed_root_is_the_same_anchor() -> None:
    """A root of the same name and key with another validity is announced already."""
    key = make_key("p256", 1)
    old, new = make_ca("root", key=key), make_ca("root", key=key, shape=Shape(path_length=3))
    assert old.certificate != new.certificate
    assert faults(under(old), under(new)) == []


def test_namesake_is_another_anchor() -> None:
    """The same name with another key is another root."""
    assert len(faults(under(make_ca("root")), under(make_ca("root")))) == 2
