"""One order and the right answer to it: istiod's, as recorded."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.csr import parse_csr
from meshsigner.model import Chain, Issuer, Order, Terms, TrustBundle
from tests.vectors.judge import CALLER, decide
from tests.vectors.recorded_calls import FOLDER, RecordedCall, recorded_calls


def recorded_issuer() -> Issuer:
    """Return the CA that signed the recorded answers: a root that signs leaves itself."""
    pem = (FOLDER / "istiod-ca-cert.pem").read_text()
    root = x509.load_pem_x509_certificate(pem.encode())
    return Issuer(
        certificate=root,
        intermediates=(),
        trust_bundle=TrustBundle(certificates=(root,), pem=pem),
        chain_pem=(),
        generation=1,
    )


def recorded_leaf(call: RecordedCall) -> x509.Certificate:
    """Return the leaf of istiod's answer to a call."""
    return x509.load_pem_x509_certificate(call.chain[0].encode())


def recorded_order(call: RecordedCall) -> Order:
    """Make the order that istiod must have had in mind: its times, our decision for the rest."""
    leaf, decided = recorded_leaf(call), decide(call.csr.encode())
    terms = Terms(
        identity=decided.identity,
        common_name=decided.common_name,
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        policy_generation=1,
    )
    return Order(
        caller=CALLER,
        request=parse_csr(call.csr.encode()),
        terms=terms,
        cert_signer="",
        issuer=recorded_issuer(),
        peer="",
    )


_CALL = next(call for call in recorded_calls() if call.chain)
ORDER = recorded_order(_CALL)


def chain_of(leaf_der: bytes) -> Chain:
    """Return a chain whose leaf is any bytes."""
    return Chain(
        leaf_der=leaf_der,
        issuer=ORDER.issuer,
        serial=recorded_leaf(_CALL).serial_number,
        backend="recorded",
    )


CHAIN = chain_of(recorded_leaf(_CALL).public_bytes(Encoding.DER))
