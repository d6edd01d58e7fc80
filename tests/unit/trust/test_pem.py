"""Tests of reading PEM strictly: what a block must be, and how it is named."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from meshsigner.trust.findings import Findings
from meshsigner.trust.pem import describe, describe_key, parse_certificates, parse_private_key
from tests.fakes.authority import make_ca, make_key

WHERE = Path("/etc/cacerts/x.pem")
CA = make_ca("a\nb")


def test_place_is_named() -> None:
    """Each certificate knows its file and its number in it."""
    found = parse_certificates(CA.pem + CA.pem, WHERE, Findings())
    assert [member.where for member in found] == [
        "/etc/cacerts/x.pem: certificate 1",
        "/etc/cacerts/x.pem: certificate 2",
    ]


def test_other_blocks_are_problems_and_the_rest_is_read() -> None:
    """A block of another kind is told; the certificates around it are still read."""
    findings = Findings()
    found = parse_certificates(CA.pem + CA.key_pem() + CA.pem, WHERE, findings)
    assert len(found) == 2
    (problem,) = findings.problems
    assert problem.startswith("/etc/cacerts/x.pem: block 2 is a PRIVATE KEY; expected CERTIFICATE")


def test_description_is_one_line() -> None:
    """A name with a line feed cannot make a second log line."""
    assert describe(CA.certificate) == r"'CN=a\nb'"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("p256", "secp256r1"), ("p384", "secp384r1"), ("rsa2048", "RSA 2048")],
)
def test_keys_are_named_by_kind(kind: str, name: str) -> None:
    """A message names a key's kind and size, of private and public halves alike."""
    key = make_key(kind)
    assert describe_key(key) == describe_key(key.public_key()) == name
    assert describe_key(ed25519.Ed25519PrivateKey.generate()) == "Ed25519"


def test_key_is_read() -> None:
    """A good key comes back without a problem."""
    findings = Findings()
    key = parse_private_key(CA.key_pem(), WHERE, findings)
    assert findings.problems == []
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert CA.certificate.public_key() == key.public_key()
