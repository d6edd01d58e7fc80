"""Whatever a CA answers, it is what was asked for or a wrong answer, and nothing else."""

import base64
from contextlib import suppress
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from meshsigner.agent.answer import WrongAnswer, check_answer
from meshsigner.agent.crl import InvalidCrl, parse_crls
from meshsigner.agent.keys import KeyType, build_csr, make_key
from tests.fakes.workload_ca import FakeCa

IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
KEY = make_key(KeyType.P256)
CA = FakeCa()
CSR = x509.load_pem_x509_csr(build_csr(KEY, IDENTITY))
CHAIN = CA.issue(CSR, timedelta(hours=1))
LEAF, ISSUER, ROOT = (x509.load_pem_x509_certificate(element.encode()) for element in CHAIN)
NOW = LEAF.not_valid_before_utc + timedelta(minutes=3)


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def _crl_pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN X509 CRL-----\n" + body + b"-----END X509 CRL-----\n"


def test_unchanged_answer_passes() -> None:
    """What the other properties change is good to begin with."""
    chain = tuple(_pem(c.public_bytes(Encoding.DER)) for c in (LEAF, ISSUER, ROOT))
    assert check_answer(chain, KEY.public_key(), IDENTITY, NOW).leaf == LEAF


# A serial number with its sign bit set is read with a warning; it must be refused like any change.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, 1), st.integers(0), st.integers(1, 255))
@example(element=1, place=1_200, change=128)
@example(element=0, place=15, change=128)
def test_no_changed_octet_passes(element: int, place: int, change: int) -> None:
    """Every octet of leaf and intermediate is under a signature, or part of one."""
    chain = [LEAF, ISSUER, ROOT]
    der = bytearray(chain[element].public_bytes(Encoding.DER))
    der[place % len(der)] ^= change
    elements = [_pem(c.public_bytes(Encoding.DER)) for c in chain]
    elements[element] = _pem(bytes(der))
    with pytest.raises(WrongAnswer):
        check_answer(elements, KEY.public_key(), IDENTITY, NOW)


@given(st.lists(st.sampled_from([*CHAIN, "", "junk"]) | st.text(max_size=60), max_size=5))
def test_any_elements_are_judged(elements: list[str]) -> None:
    """Too few, too many, in any order, or no certificates at all: no other exception escapes."""
    with suppress(WrongAnswer):
        assert check_answer(elements, KEY.public_key(), IDENTITY, NOW).leaf == LEAF


@given(st.binary(max_size=300) | st.binary(max_size=300).map(_crl_pem))
def test_any_crl_file_is_judged(pem: bytes) -> None:
    """What cannot be read is refused in words; nothing else escapes."""
    with suppress(InvalidCrl):
        assert parse_crls(pem) == () or b"X509 CRL" in pem
