"""Tests of the checks of a single CA certificate."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.trust.authority import (
    authority_faults,
    ca_faults,
    extension_of,
    is_self_signed,
    issuer_remarks,
    validity_faults,
)
from tests.fakes.authority import NOW, Shape, make_ca, make_key

ROOT = make_ca("root")
SECOND = timedelta(seconds=1)
ANY = (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(path_length=0),
        Shape(extended_usage=ANY),
        Shape(extended_usage=(*BOTH, ExtendedKeyUsageOID.CODE_SIGNING)),
        Shape(crl_sign=False, key_id=False),
    ],
)
def test_good_ca_has_no_fault(shape: Shape) -> None:
    """What a CA may be: with or without path length, key id and wide extended usages."""
    certificate = make_ca("ca", issuer=ROOT, shape=shape).certificate
    assert list(authority_faults(certificate, below=0, now=NOW)) == []


@pytest.mark.parametrize(("path_length", "below", "faults"), [(0, 0, 0), (0, 1, 1), (1, 1, 0)])
def test_path_length_counts_cas_below(path_length: int, below: int, faults: int) -> None:
    """A path length is the number of CAs that may stand below (RFC 5280 4.2.1.9)."""
    certificate = make_ca("ca", shape=Shape(path_length=path_length)).certificate
    assert len(list(ca_faults(certificate, below=below))) == faults


def test_validity_is_inclusive() -> None:
    """The first and the last second count (RFC 5280 4.1.2.5)."""
    start, end = NOW - timedelta(days=1), NOW + timedelta(days=365)
    certificate = make_ca("ca").certificate
    assert not [*validity_faults(certificate, start), *validity_faults(certificate, end)]
    assert len(list(validity_faults(certificate, start - SECOND))) == 1
    assert len(list(validity_faults(certificate, end + SECOND))) == 1


def test_self_signed_is_told_by_name() -> None:
    """A root names itself as issuer, an intermediate its root."""
    assert is_self_signed(ROOT.certificate)
    assert not is_self_signed(make_ca("ca", issuer=ROOT).certificate)


def test_extension_or_none() -> None:
    """An absent extension is None, a present one its value."""
    assert extension_of(ROOT.certificate, x509.BasicConstraints) is not None
    assert extension_of(ROOT.certificate, x509.NameConstraints) is None


@pytest.mark.parametrize(("kind", "slow"), [("rsa2048", 0), ("rsa3072", 1), ("p384", 0)])
def test_slow_keys_are_remarked(kind: str, slow: int) -> None:
    """From RSA-3072 on signing dominates everything else, which an operator should know."""
    certificate = make_ca("ca", key=make_key(kind)).certificate
    assert len(list(issuer_remarks(certificate))) == slow
