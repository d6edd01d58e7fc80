"""The bytes of an answer, against the generated message and cryptography's PEM."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate
from hypothesis import given
from hypothesis import strategies as st

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateResponse
from meshsigner.model import Chain, Issuer, TrustBundle
from meshsigner.rpc.answer import AnswerEncoder, leaf_pem
from tests.fakes.pipeline import make_ca_certificate, make_issuer

ROOT = make_ca_certificate(ec.generate_private_key(ec.SECP256R1()), "root")


def _issuer(chain_pem: tuple[str, ...], bundle: str) -> Issuer:
    return Issuer(
        certificate=ROOT,
        intermediates=(),
        trust_bundle=TrustBundle(certificates=(ROOT,), pem=bundle),
        chain_pem=chain_pem,
        generation=1,
    )


def _chain(leaf_der: bytes, issuer: Issuer) -> Chain:
    return Chain(leaf_der=leaf_der, issuer=issuer, serial=1, backend="fake")


@given(
    leaf_der=st.binary(min_size=1, max_size=2_000),
    chain_pem=st.lists(st.text(max_size=300), max_size=4).map(tuple),
    bundle=st.text(max_size=70_000),
)
def test_equals_the_generated_message(
    leaf_der: bytes, chain_pem: tuple[str, ...], bundle: str
) -> None:
    """Whatever leaf, intermediates and roots, the bytes are the generated message's own."""
    encoded = AnswerEncoder().encode(_chain(leaf_der, _issuer(chain_pem, bundle)))
    elements = [leaf_pem(leaf_der).decode(), *chain_pem, bundle]
    assert encoded == IstioCertificateResponse(cert_chain=elements).SerializeToString()


@given(st.binary(min_size=1, max_size=3_000))
def test_pem_has_64_columns(der: bytes) -> None:
    """Every line but the last has 64 characters, none has more, and one newline ends it."""
    lines = leaf_pem(der).decode().split("\n")
    assert lines[0] == "-----BEGIN CERTIFICATE-----"
    assert lines[-2:] == ["-----END CERTIFICATE-----", ""]
    assert all(len(line) == 64 for line in lines[1:-3])
    assert 0 < len(lines[-3]) <= 64


def test_pem_is_the_librarys() -> None:
    """The PEM of a real certificate is what cryptography writes."""
    certificate: Certificate = ROOT
    assert leaf_pem(certificate.public_bytes(Encoding.DER)) == certificate.public_bytes(
        Encoding.PEM
    )


def test_each_issuer_has_its_own_tail() -> None:
    """Equal issuers of two generations are told apart, in any order of calls."""
    encoder = AnswerEncoder()
    old, new = _issuer(("a",), "old root"), _issuer(("b",), "new root")
    first, second = encoder.encode(_chain(b"x", old)), encoder.encode(_chain(b"x", new))
    assert first.endswith(b"old root")
    assert second.endswith(b"new root")
    assert encoder.encode(_chain(b"x", old)) == first


def test_tails_do_not_pile_up() -> None:
    """A hundred reloads leave a bounded number of tails, and the newest one right."""
    encoder = AnswerEncoder()
    for number in range(100):
        issuer = make_issuer(ROOT, generation=number)
        answer = encoder.encode(_chain(b"x", issuer))
        assert answer == AnswerEncoder().encode(_chain(b"x", issuer))
    assert len(encoder._tails) <= 16
