"""Key and CSR of a workload, as istio-agent makes them."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner.agent.keys import KeyType, build_csr, make_key, render_key

RECORDED = Path(__file__).parents[2] / "vectors" / "recorded" / "create_certificate.json"
IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"


def _recorded(client: str) -> x509.CertificateSigningRequest:
    calls = json.loads(RECORDED.read_text())
    (csr,) = (call["csr"] for call in calls if call["client"] == client)
    return x509.load_pem_x509_csr(csr.encode())


@pytest.mark.parametrize(
    ("kind", "client"),
    [
        (KeyType.RSA2048, "istio-agent (pilot-agent), defaults"),
        (KeyType.P256, "istio-agent, ECC_SIGNATURE_ALGORITHM=ECDSA"),
        (KeyType.P384, "istio-agent, ECC_SIGNATURE_ALGORITHM=ECDSA ECC_CURVE=P384"),
    ],
)
def test_csr_is_what_istio_agent_sent(kind: KeyType, client: str) -> None:
    """Subject, SAN, criticality and algorithms are those of a recorded CSR, byte for byte."""
    recorded = _recorded(client)
    (identity,) = _san(recorded).get_values_for_type(x509.UniformResourceIdentifier)
    made = x509.load_pem_x509_csr(build_csr(make_key(kind), identity))
    assert made.subject.public_bytes() == recorded.subject.public_bytes()
    assert list(made.extensions) == list(recorded.extensions)
    assert made.signature_algorithm_oid == recorded.signature_algorithm_oid
    assert type(made.public_key()) is type(recorded.public_key())
    assert _without_key_and_signature(made) == _without_key_and_signature(recorded)


def _san(csr: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName:
    return csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def _without_key_and_signature(csr: x509.CertificateSigningRequest) -> bytes:
    key = csr.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return csr.tbs_certrequest_bytes.replace(key, b"")


@pytest.mark.parametrize("kind", KeyType)
def test_csr_is_signed_by_its_key(kind: KeyType) -> None:
    """The request proves possession of the key, of each kind."""
    key = make_key(kind)
    csr = x509.load_pem_x509_csr(build_csr(key, IDENTITY))
    assert csr.is_signature_valid
    assert csr.public_key() == key.public_key()


def test_keys_have_the_size_of_their_kind() -> None:
    """The names of kinds say their sizes."""
    sizes = {kind: make_key(kind).key_size for kind in KeyType}
    assert sizes == {KeyType.RSA2048: 2048, KeyType.P256: 256, KeyType.P384: 384}


@pytest.mark.parametrize(
    ("kind", "label"), [(KeyType.RSA2048, b"RSA PRIVATE KEY"), (KeyType.P256, b"EC PRIVATE KEY")]
)
def test_key_is_written_as_istio_agent_writes_it(kind: KeyType, label: bytes) -> None:
    """A key file has the form of PKCS #1 or SEC 1, and reads back."""
    pem = render_key(make_key(kind))
    assert pem.startswith(b"-----BEGIN " + label)
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
