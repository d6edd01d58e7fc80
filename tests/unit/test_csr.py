"""What is read from a CSR, and each bound at its edge; the attacks are in tests/vectors."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.csr import parse_csr
from meshsigner.errors import InvalidCsr
from meshsigner.model import MAX_CSR_BYTES, KeyAlgorithm
from tests.vectors import der
from tests.vectors.pkcs10 import (
    COMMON_NAME,
    IDENTITY,
    ORGANIZATION,
    asking,
    attribute,
    dns,
    info,
    own_name,
    pem,
    request,
    san,
    signed,
    subject,
    uri,
    usual,
)
from tests.vectors.signers import (
    SHA384,
    Signer,
    ec_key,
    ed25519_key,
    p256,
    rsa2048_modulus,
    rsa_key,
    rsa_numbers,
)

ED25519_SIGNATURE = ed25519_key().algorithm


@pytest.mark.parametrize(
    ("signer", "algorithm", "bits"),
    [
        (rsa_key("rsa2048"), KeyAlgorithm.RSA, 2_048),
        (rsa_key("rsa8192"), KeyAlgorithm.RSA, 8_192),
        (p256(), KeyAlgorithm.P256, 256),
        (ec_key(ec.SECP384R1(), SHA384), KeyAlgorithm.P384, 384),
        (ed25519_key(), KeyAlgorithm.ED25519, 256),
    ],
)
def test_key_is_read(signer: Signer, algorithm: KeyAlgorithm, bits: int) -> None:
    """Kind, size, encoding and digest of the key are those of the request."""
    key = parse_csr(pem(request(own_name(), signer=signer))).public_key
    assert (key.algorithm, key.bits) == (algorithm, bits)
    assert key.spki_der == signer.spki
    assert key.sha256 == hashlib.sha256(signer.spki).digest()


def test_digest_is_that_of_the_der() -> None:
    """The request is known by the SHA-256 of its DER, however its text was wrapped."""
    wanted = hashlib.sha256(usual()).digest()
    assert parse_csr(pem(usual())).csr_sha256 == wanted
    assert parse_csr(pem(usual(), newline="\r\n", width=48)).csr_sha256 == wanted


def test_names_are_read_in_order() -> None:
    """URI names keep their order, names of other kinds are counted."""
    names = san(uri("spiffe://b/1"), dns("x"), uri("spiffe://a/2"), dns("y"))
    read = parse_csr(pem(request(names)))
    assert read.uri_sans == ("spiffe://b/1", "spiffe://a/2")
    assert read.other_sans == 2


def test_a_request_without_names_asks_for_none() -> None:
    """No attribute, no extension and no name read alike."""
    for body in (request(), signed(p256(), info(p256()))):
        read = parse_csr(pem(body))
        assert (read.uri_sans, read.other_sans, read.wants_common_name) == ((), 0, False)


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([], False),
        ([(ORGANIZATION, "")], False),
        ([(COMMON_NAME, "x")], True),
        ([(ORGANIZATION, "o"), (COMMON_NAME, "x")], True),
    ],
)
def test_only_a_common_name_is_a_wish_for_one(
    pairs: list[tuple[str, str]], *, wanted: bool
) -> None:
    """Of the subject it counts only whether there is a common name."""
    read = parse_csr(pem(request(own_name(), name=subject(*pairs))))
    assert read.wants_common_name is wanted
    assert read.uri_sans == (IDENTITY,)


def test_the_type_of_a_common_name_elsewhere_is_no_wish() -> None:
    """The bytes that name a common name, in another attribute, do not make a wish for one."""
    elsewhere = attribute("1.2.3.4", der.oid(COMMON_NAME))
    body = signed(p256(), info(p256(), attributes=[asking(own_name()), elsewhere]))
    assert not parse_csr(pem(body)).wants_common_name


def test_size_is_bounded_to_the_byte() -> None:
    """16,384 bytes are read and one more is refused, whatever they are."""
    text = pem(usual())
    longest = text + b"\n" * (16_384 - len(text))
    assert parse_csr(longest).uri_sans == (IDENTITY,)
    with pytest.raises(InvalidCsr, match="certificate signing request is larger than 16384 bytes"):
        parse_csr(longest + b"\n")
    assert MAX_CSR_BYTES == 16_384


@pytest.mark.parametrize(
    "numbers",
    [
        (rsa2048_modulus(), 3),
        (rsa2048_modulus(), 65_539),
        (2**8_192 + 1, 65_537),
        (2**16_383 + 1, 65_537),
    ],
)
def test_rsa_keys_are_bounded_before_their_signature_is_looked_at(numbers: tuple[int, int]) -> None:
    """Another exponent or a modulus above 8,192 bits costs us no verification."""
    csr = pem(request(own_name(), signer=rsa_numbers(*numbers)))
    with pytest.raises(InvalidCsr, match="RSA keys need exponent 65537 and at most 8192 bits"):
        parse_csr(csr)


@pytest.mark.parametrize(
    "signer",
    [
        Signer(spki=p256().spki, algorithm=ED25519_SIGNATURE, sign=p256().sign),
        Signer(spki=ed25519_key().spki, algorithm=p256().algorithm, sign=ed25519_key().sign),
        Signer(
            spki=ed25519_key().spki,
            algorithm=rsa_key("rsa2048").algorithm,
            sign=ed25519_key().sign,
        ),
        Signer(
            spki=rsa_key("rsa2048").spki,
            algorithm=p256().algorithm,
            sign=rsa_key("rsa2048").sign,
        ),
    ],
)
def test_signature_algorithm_must_be_the_keys_own(signer: Signer) -> None:
    """A true signature under the name of another algorithm is refused."""
    with pytest.raises(InvalidCsr, match="the signature algorithm is not supported for this key"):
        parse_csr(pem(request(own_name(), signer=signer)))


@pytest.mark.parametrize("signer", [p256(), rsa_key("rsa2048"), ed25519_key()])
def test_statement_13_another_keys_signature_is_refused(signer: Signer) -> None:
    """Whoever cannot sign with the key gets no certificate for it."""
    body = request(own_name(), signer=signer)
    broken = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(InvalidCsr, match="the signature does not match the public key"):
        parse_csr(pem(broken))
