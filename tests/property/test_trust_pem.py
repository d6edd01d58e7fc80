"""Properties of reading PEM: no input raises, and what is taken is what was written."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.trust.findings import Findings
from meshsigner.trust.pem import parse_certificates, parse_private_key
from tests.fakes.authority import Ca, make_ca, make_key

WHERE = Path("file.pem")
CAS = [make_ca(f"ca {number}") for number in range(3)]
DER = CAS[0].certificate.public_bytes(Encoding.DER)
KEY_DER = make_key("p256").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
LABELS = ("CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "X")
# Odd certificates make the library warn where it will refuse one day.
pytestmark = pytest.mark.filterwarnings("ignore")


def armour(label: str, der: bytes) -> bytes:
    """Write DER as PEM."""
    body = base64.encodebytes(der)
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), body, label.encode())


@st.composite
def damaged(draw: st.DrawFn, der: bytes) -> bytes:
    """Return DER with some bytes changed and perhaps some missing at the end."""
    data = bytearray(der)
    for place in draw(st.lists(st.integers(0, len(der) - 1), min_size=1, max_size=4)):
        data[place] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(len(der) // 2, len(der)))])


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"-----BEGIN ", b"CERTIFICATE-----\n", b"-----END ", CAS[0].pem]),
    st.builds(armour, st.sampled_from(LABELS), damaged(DER)),
    st.builds(armour, st.sampled_from(LABELS), damaged(KEY_DER)),
)


@given(st.lists(PIECES, max_size=5).map(b"".join))
def test_any_file_is_taken_or_told(data: bytes) -> None:
    """Whatever a file holds, each reader returns something or adds a problem."""
    certificates, key = Findings(), Findings()
    found = parse_certificates(data, WHERE, certificates)
    assert found or certificates.problems
    assert (parse_private_key(data, WHERE, key) is None) == bool(key.problems)


@given(damaged(DER))
def test_damaged_certificate_is_taken_or_told(der: bytes) -> None:
    """A certificate with changed bytes either parses in all its parts or is a problem."""
    findings = Findings()
    found = parse_certificates(armour("CERTIFICATE", der), WHERE, findings)
    assert len(found) + len(findings.problems) == 1


@given(damaged(KEY_DER))
def test_damaged_key_is_taken_or_told(der: bytes) -> None:
    """A key with changed bytes either loads or is a problem that quotes none of it."""
    findings = Findings()
    key = parse_private_key(armour("PRIVATE KEY", der), WHERE, findings)
    assert (key is None) == bool(findings.problems)
    assert base64.b64encode(der)[:16].decode() not in "".join(findings.problems)


TEXT = st.text(alphabet="abc #=:\r\n\t", max_size=20).map(str.encode)


@given(st.lists(st.tuples(st.sampled_from(CAS), TEXT), min_size=1, max_size=6), st.booleans())
def test_certificates_come_back_in_order(
    members: list[tuple[Ca, bytes]],
    windows: bool,  # noqa: FBT001 - Hypothesis passes by position
) -> None:
    """All certificates come back in order and verbatim, whatever text and line ends are between."""
    cas = [ca for ca, _ in members]
    data = b"".join(text + b"\n" + ca.pem for ca, text in members)
    findings = Findings()
    found = parse_certificates(
        data.replace(b"\n", b"\r\n") if windows else data,
        WHERE,
        findings,
    )
    assert findings.problems == []
    assert [ca.certificate for ca in cas] == [member.certificate for member in found]
    assert [ca.pem.decode() for ca in cas] == [member.pem for member in found]
