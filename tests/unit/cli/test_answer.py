"""How the client tells an answer."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.cli.answer import answer_as_json, describe_answer, serial_of
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
