"""Which certificate chains prove a workload of the mesh."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.authn.client_chain import MAX_CHAIN_BYTES, check_chain
from meshsigner.errors import Unauthenticated
from meshsigner.model import Issuer
from tests.fakes.authority import GOOD, NOW, make_ca
from tests.fakes.client_certificates import IDENTITY, Leaf, Mesh, make_leaf

_MESH = Mesh()


def _identity(pem: bytes, issuer: Issuer) -> str:
    return str(check_chain(pem, issuer, NOW).spiffe_id)


def _refusal(pem: bytes, mesh: Mesh = _MESH) -> str:
    with pytest.raises(Unauthenticated) as refused:
        check_chain(pem, mesh.issuer, NOW)
    return str(refused.value)


def test_a_certificate_of_ours_proves_its_identity() -> None:
    """Identity, serial number and digest come from the leaf."""
    made = _MESH.leaf()
    found = check_chain(made.chain_pem, _MESH.issuer, NOW)
    assert str(found.spiffe_id) == IDENTITY
    assert found.serial == made.serial
    assert len(found.sha256) == 64


def test_intermediates_that_we_have_may_be_missing() -> None:
    """A leaf alone is enough where the issuer that signed it is still in use."""
    assert _identity(_MESH.leaf().pem, _MESH.issuer) == IDENTITY


def test_a_replaced_intermediate_is_taken_from_the_client() -> None:
    """A leaf of an earlier issuer holds with the chain that it was issued with."""
    earlier = make_ca("earlier issuer", issuer=_MESH.root)
    made = make_leaf(earlier, chain=[earlier])
    assert _identity(made.chain_pem, _MESH.issuer) == IDENTITY
    assert "no path" in _refusal(made.pem)


def test_a_root_that_is_only_announced_is_trusted() -> None:
    """During a change of roots both prove their workloads."""
    old = Mesh("old")
    both = _MESH.issuer_of(_MESH.root, old.root)
    assert _identity(old.leaf().chain_pem, both) == IDENTITY


def test_statement_41_a_chain_must_end_in_our_roots() -> None:
    """A certificate of another mesh is refused, also when it brings its root along."""
    other = Mesh()
    assert "no path" in _refusal(other.leaf().chain_pem)
    assert "no path" in _refusal(other.leaf().chain_pem + other.root.pem)


@pytest.mark.parametrize("uris", [(), (IDENTITY, "spiffe://cluster.local/ns/foo/sa/other")])
def test_statement_41_exactly_one_uri(uris: tuple[str, ...]) -> None:
    """None is no identity, and two are not one."""
    assert f"{len(uris)} URIs" in _refusal(_MESH.leaf(uris=uris, dns=["vm.example.org"]).chain_pem)


@pytest.mark.parametrize(
    "uri", ["https://cluster.local/ns/foo/sa/vm", "spiffe://cluster.local", "spiffe://A/b"]
)
def test_statement_41_the_uri_is_a_spiffe_id(uri: str) -> None:
    """Other URIs name nobody."""
    assert "no SPIFFE ID" in _refusal(_MESH.leaf(uris=[uri]).chain_pem)


@pytest.mark.parametrize(
    "changes",
    [
        {"not_after": NOW - timedelta(seconds=1)},
        {"not_before": NOW + timedelta(seconds=1)},
    ],
)
def test_statement_41_the_certificate_must_be_valid_now(changes: dict[str, Any]) -> None:
    """One second outside its validity is too much."""
    assert "no path" in _refusal(_MESH.leaf(**changes).chain_pem)


def test_statement_41_the_whole_path_must_be_valid_now() -> None:
    """An expired intermediate vouches for nobody."""
    late = dataclasses.replace(GOOD, not_after=NOW - timedelta(seconds=1))
    expired = make_ca("expired issuer", issuer=_MESH.root, shape=late)
    assert "no path" in _refusal(make_leaf(expired, chain=[expired]).chain_pem)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"ca": True}, "CA certificate"),
        ({"signs_certificates": True}, "key usage"),
        ({"usages": None}, "client authentication"),
        ({"usages": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "client authentication"),
    ],
)
def test_a_certificate_with_other_usages_proves_nobody(changes: dict[str, Any], cause: str) -> None:
    """CAs and pure servers are no clients."""
    assert cause in _refusal(_MESH.leaf(**changes).chain_pem)


@pytest.mark.parametrize(
    "shape",
    [
        {"ca": False},
        {"ca": None},
        {"cert_sign": False},
        {"extended_usage": (ExtendedKeyUsageOID.SERVER_AUTH,)},
        {"unknown_critical": True},
    ],
)
def test_whoever_may_not_sign_vouches_for_nobody(shape: dict[str, Any]) -> None:
    """A workload's own key, or a CA for other purposes, makes no identities."""
    forger = make_ca("forger", issuer=_MESH.root, shape=dataclasses.replace(GOOD, **shape))
    assert "no path" in _refusal(make_leaf(forger, chain=[forger]).chain_pem)


def test_a_workload_cannot_certify_others() -> None:
    """A leaf of ours above another leaf is no path."""
    made = _MESH.leaf()
    shape = dataclasses.replace(GOOD, ca=False, cert_sign=False)
    workload = make_ca("workload", issuer=_MESH.intermediate, shape=shape)
    forged = make_leaf(workload, Leaf(uris=["spiffe://cluster.local/ns/foo/sa/admin"]))
    assert "no path" in _refusal(forged.pem + workload.pem + made.chain_pem)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        _MESH.leaf().pem * 9,
        _MESH.leaf().pem + b"#" * MAX_CHAIN_BYTES,
    ],
)
def test_what_is_no_chain_of_sensible_size_is_refused(pem: bytes) -> None:
    """Nothing, rubbish, too many and too much."""
    assert "certificate" in _refusal(pem)


def test_a_refusal_never_quotes_the_certificate() -> None:
    """Names in a stranger's certificate stay out of our log."""
    stranger = make_ca("written by a stranger")
    assert "stranger" not in _refusal(make_leaf(stranger, chain=[stranger]).chain_pem)
