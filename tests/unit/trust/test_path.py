"""Tests of finding the path from an issuer to a root."""

from datetime import timedelta
from pathlib import Path

from meshsigner.trust.findings import Findings
from meshsigner.trust.path import build_path, check_bundle, check_path, issued_by
from meshsigner.trust.pem import PemCertificate, parse_certificates
from tests.fakes.authority import NOW, Ca, Shape, make_ca, make_key

ROOT = make_ca("root")
UPPER = make_ca("upper", issuer=ROOT)
ISSUER = make_ca("issuer", issuer=UPPER)


def read(*cas: Ca) -> tuple[PemCertificate, ...]:
    """Return certificates as a file would give them."""
    return parse_certificates(b"".join(ca.pem for ca in cas), Path("f"), Findings())


def test_root_is_excluded_wherever_it_was_listed() -> None:
    """With and without the root in the chain file the intermediates are the same."""
    (issuer,), roots = read(ISSUER), read(ROOT)
    for chain in (read(ISSUER, UPPER), read(ISSUER, UPPER, ROOT)):
        path = build_path(issuer, chain, roots, Findings())
        assert path is not None
        assert [member.certificate for member in path.intermediates] == [
            ISSUER.certificate,
            UPPER.certificate,
        ]
        assert path.root is roots[0]


def test_every_fault_of_a_path_is_told_with_its_place() -> None:
    """Each certificate is checked at its own depth and named by its own place."""
    short = make_ca("short", shape=Shape(path_length=0, cert_sign=False))
    ended = make_ca("ended", issuer=short, shape=Shape(not_after=NOW - timedelta(hours=1)))
    (issuer,), chain, roots = read(ended), read(ended), read(short)
    path = build_path(issuer, chain, roots, Findings())
    assert path is not None
    findings = Findings()
    check_path(path, NOW, findings)
    assert [problem.split(" ")[3] for problem in findings.problems] == [
        "'CN=ended'",
        "'CN=short'",
        "'CN=short'",
    ]


def test_without_a_path_roots_are_checked_all_the_same() -> None:
    """A bundle is judged also when nothing leads to it."""
    findings = Findings()
    check_bundle(read(ROOT, UPPER), None, NOW, findings)
    (problem,) = findings.problems
    assert "'CN=upper' is no root" in problem


def test_issued_by_asks_names_and_signature() -> None:
    """The right name with the wrong key is no issuer, whatever the key kinds."""
    assert issued_by(UPPER.certificate, ROOT.certificate)
    assert not issued_by(ROOT.certificate, UPPER.certificate)
    for kind in ("p256", "p384", "rsa2048"):
        assert not issued_by(UPPER.certificate, make_ca("root", key=make_key(kind)).certificate)
