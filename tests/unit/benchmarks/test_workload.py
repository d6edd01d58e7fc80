"""What the driver sends, read by the messages and libraries of others."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hpack import Decoder
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from benchmarks.load.keys import KeyType, make_key
from benchmarks.load.messages import decode_chain, encode_request
from benchmarks.load.tokens import IssuerKey, TokenIssuer
from benchmarks.load.workload import Recipe
from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse

RSA_ISSUER = rsa.generate_private_key(65537, 2048)
P256_ISSUER = ec.generate_private_key(ec.SECP256R1())


def recipe(key: IssuerKey, kind: KeyType) -> Recipe:
    """Return a recipe with one workload key."""
    issuer = TokenIssuer(key=key, key_id="k1", issuer="https://issuer.example")
    return Recipe(tokens=issuer, keys=[make_key(kind)], trust_domain="cluster.local", prefix="a")


def ignore() -> None:
    """Take no notice of progress."""


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_call_asks_for_its_own_identity(kind: KeyType) -> None:
    """Token, CSR and what the audit expects speak of one identity, another for each call."""
    calls = recipe(RSA_ISSUER, kind).make_calls(2, ignore)
    message = IstioCertificateRequest.FromString(calls[1].body[5:])
    csr = x509.load_pem_x509_csr(message.csr.encode())
    sans = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    key = csr.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert csr.is_signature_valid
    assert sans.critical
    assert [name.value for name in sans.value] == [calls[1].uri_san]
    assert key == calls[1].public_key_der
    assert calls[0].uri_san != calls[1].uri_san


@pytest.mark.parametrize("key", [RSA_ISSUER, P256_ISSUER])
def test_token_has_the_shape_kubernetes_issues(key: IssuerKey) -> None:
    """Another library accepts the token, and its claims agree with each other."""
    call = recipe(key, "p256").make_calls(1, ignore)[0]
    ((name, value),) = Decoder().decode(call.token_block, raw=True)
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    jwk = RSAKey.import_key(pem) if isinstance(key, rsa.RSAPrivateKey) else ECKey.import_key(pem)
    token = jwt.decode(value.removeprefix(b"Bearer ").decode(), jwk)
    account = token.claims["kubernetes.io"]["serviceaccount"]["name"]
    assert name == b"authorization"
    assert token.claims["aud"] == ["istio-ca"]
    assert token.claims["sub"] == f"system:serviceaccount:bench-0:{account}"
    assert token.claims["exp"] - token.claims["iat"] == 43_200


def test_request_is_what_protobuf_makes() -> None:
    """The hand-made request has the bytes of the generated message."""
    message = IstioCertificateRequest(csr="c" * 300, validity_duration=86_400)
    message.metadata["CertSigner"] = ""
    framed = encode_request(b"c" * 300, 86_400, {"CertSigner": ""})
    assert framed[5:] == message.SerializeToString()
    assert framed[:5] == b"\x00" + len(framed[5:]).to_bytes(4, "big")


def test_chain_is_what_protobuf_reads() -> None:
    """The hand-made reader sees the elements of the generated message, in order."""
    message = IstioCertificateResponse(cert_chain=["leaf", "i" * 200, "root"]).SerializeToString()
    framed = b"\x00" + len(message).to_bytes(4, "big") + message
    assert decode_chain(framed) == ["leaf", "i" * 200, "root"]


@pytest.mark.parametrize(
    "body",
    [b"", b"\x01\x00\x00\x00\x00", b"\x00\x00\x00\x00\x09x", b"\x00\x00\x00\x00\x02\x0a\x05"],
)
def test_broken_answer_is_an_error(body: bytes) -> None:
    """Whatever is not exactly one message raises instead of passing for a chain."""
    with pytest.raises(ValueError, match=r"."):
        decode_chain(body)
