"""What the client checks in an answer, and how it tells it."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.cli.answer import (
    WrongAnswer,
    answer_as_json,
    check_answer,
    describe_answer,
    serial_of,
)
from meshsigner.signing.making import build_intermediate, build_root
from meshsigner.spiffe import TrustDomain

IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MESH = TrustDomain("cluster.local")
ROOT_KEY, CA_KEY, KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
ROOT = build_root(ROOT_KEY, trust_domain=MESH, now=NOW, lifetime=DAY)
CA = build_intermediate(
    CA_KEY, root=ROOT, root_key=ROOT_KEY, trust_domain=MESH, now=NOW, lifetime=DAY
)
OTHER_ROOT = build_root(OTHER_KEY, trust_domain=MESH, now=NOW, lifetime=DAY)


def _leaf(identity: str = IDENTITY, end: datetime = NOW + DAY) -> str:
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(CA.subject)
        .public_key(KEY.public_key())
        .serial_number(0xABC)
        .not_valid_before(NOW - DAY)
        .not_valid_after(end)
        .add_extension(san, critical=True)
    )
    return _pem(builder.sign(CA_KEY, hashes.SHA256()))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


GOOD = (_leaf(), _pem(CA), _pem(OTHER_ROOT) + _pem(ROOT))


def test_good_answer_passes() -> None:
    """Own key, own identity, a chain to one of several roots: that is what was asked for."""
    check_answer(GOOD, KEY.public_key(), IDENTITY)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ((), "0 elements"),
        ((GOOD[0],), "1 elements"),
        ((GOOD[0], "junk", GOOD[2]), "no PEM certificate"),
        ((GOOD[0], GOOD[1], ""), "no PEM certificate"),
        ((_leaf("spiffe://cluster.local/ns/a/sa/b"), *GOOD[1:]), "asked was"),
        ((_leaf(end=NOW - timedelta(hours=1)), *GOOD[1:]), "is not valid now"),
        ((GOOD[0], _pem(OTHER_ROOT), GOOD[2]), "is not issued by the next element"),
        ((GOOD[0], GOOD[1], _pem(OTHER_ROOT)), "does not end in a root"),
        ((GOOD[0], GOOD[2]), "does not end in a root"),
    ],
)
def test_wrong_answer_is_told(chain: tuple[str, ...], words: str) -> None:
    """An answer that would fail later in a handshake is refused at once, in words."""
    with pytest.raises(WrongAnswer, match=words):
        check_answer(chain, KEY.public_key(), IDENTITY)


def test_certificate_for_another_key_is_refused() -> None:
    """A certificate that does not belong to the key is of no use."""
    with pytest.raises(WrongAnswer, match="another key"):
        check_answer(GOOD, OTHER_KEY.public_key(), IDENTITY)


def test_answer_is_described_in_words() -> None:
    """Identity, issuer, validity, chain and time are told."""
    told = list(describe_answer(GOOD, 0.0123))
    assert ("identity", IDENTITY) in told
    assert ("took", "12.3 ms, connection included") in told
    assert any("48h" in value or "2d" in value for name, value in told if name == "valid")
    assert sum(value.startswith("<- ") for _, value in told) == 3


def test_answer_is_described_for_programs() -> None:
    """The same is there as JSON values."""
    shown = answer_as_json(GOOD, 0.0123)
    assert (shown["identity"], shown["serial"], shown["call_ms"]) == (IDENTITY, "abc", 12.3)


def test_serial_is_written_as_in_the_inventory() -> None:
    """The serial number can be handed to `inventory show` as it is."""
    assert serial_of(GOOD) == "abc"
