"""parse_csr: no input makes it raise anything but InvalidCsr, and it never invents names."""

import base64
import binascii
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsigner.csr import parse_csr
from meshsigner.errors import InvalidCsr, SanNotAllowed
from meshsigner.model import CertificateRequest
from tests.fuzz.mutation import mutated
from tests.vectors.case import Case, Verdict
from tests.vectors.judge import decide
from tests.vectors.make_csrs import all_cases
from tests.vectors.pkcs10 import IDENTITY, pem, request, san, uri

SMALL = [case for case in all_cases() if len(case.csr) < 20_000]
GOOD = [case for case in SMALL if case.verdict is Verdict.ACCEPTED]
_BASE64 = re.compile(rb"-----BEGIN CERTIFICATE REQUEST-----(.*)-----END", re.DOTALL)


def _der(case: Case) -> bytes:
    block = _BASE64.search(case.csr)
    try:
        return base64.b64decode(block[1]) if block else case.csr
    except binascii.Error:
        return case.csr


def _read(csr_pem: bytes) -> CertificateRequest | None:
    """Parse; every error but the documented one fails the test."""
    try:
        return parse_csr(csr_pem)
    except InvalidCsr:
        return None


@given(csr_pem=st.binary(max_size=300))
def test_any_bytes_are_refused(csr_pem: bytes) -> None:
    """Bytes that nobody built as a CSR raise InvalidCsr."""
    assert _read(csr_pem) is None


@settings(max_examples=300)
@given(data=st.data(), case=st.sampled_from(SMALL))
def test_any_change_of_the_text_is_read_or_refused(data: st.DataObject, case: Case) -> None:
    """A changed PEM text never raises anything undocumented."""
    _read(data.draw(mutated(case.csr)))


@settings(max_examples=300)
@given(data=st.data(), case=st.sampled_from(SMALL))
def test_any_change_of_the_der_is_read_or_refused(data: st.DataObject, case: Case) -> None:
    """A changed DER in good PEM never raises anything undocumented."""
    _read(pem(data.draw(mutated(_der(case)))))


@pytest.mark.parametrize("name", ["ztunnel", "istio_agent"])
def test_every_single_bit_counts(name: str) -> None:
    """Whichever bit of a client's CSR is flipped, it is refused: nothing in it is unsigned."""
    (case,) = (case for case in GOOD if case.name == name)
    original = _der(case)
    assert _read(pem(original)) is not None
    for position in range(len(original) * 8):
        changed = bytearray(original)
        changed[position // 8] ^= 1 << position % 8
        assert _read(pem(bytes(changed))) is None, position


@settings(max_examples=50)
@given(texts=st.lists(st.text(max_size=40) | st.just(IDENTITY), min_size=1, max_size=4))
def test_only_the_callers_own_name_is_accepted(texts: list[str]) -> None:
    """Of all lists of URI names just [the caller's] passes; whatever is read is what was asked."""
    csr_pem = pem(request(san(*(uri(text) for text in texts))))
    read = _read(csr_pem)
    if read is not None:
        assert list(read.uri_sans) == texts
        assert read.other_sans == 0
    try:
        decide(csr_pem)
    except (InvalidCsr, SanNotAllowed):
        assert texts != [IDENTITY]
    else:
        assert texts == [IDENTITY]
