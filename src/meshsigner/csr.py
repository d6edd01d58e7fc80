"""Reads a CSR: any bytes in, a checked value or `InvalidCsr` out.

Decides whether bytes are one PKCS #10 request in canonical DER, signed by its
own key, of a kind we know. What the request may ask for is `policy`'s to
decide; only a request to become a CA is refused here, whoever asks. It is
reached by callers with a valid credential only: X.509 parsers are a target.

Source: RFC 2986; RFC 7468 (PEM); docs/standards.md 13, 28 to 32.
"""

import binascii
import hashlib
import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ObjectIdentifier, SignatureAlgorithmOID

from meshsigner.errors import UNREADABLE_X509, InvalidCsr
from meshsigner.model import MAX_CSR_BYTES, CertificateRequest, KeyAlgorithm, PublicKey

MAX_RSA_BITS = 8_192  # what a stranger's signature check may cost us at most
RSA_EXPONENT = 65_537  # the one that every client makes; 3 has a history of forgeries

# istiod's own words, so that people find them in its documentation.
NOT_PEM = "certificate signing request is not properly encoded"
NOT_PARSABLE = "failed to parse X.509 certificate signing request"
ASKS_FOR_CA = "unable to generate CA certificates"

_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/=\r\n]+)"
    rb"-----END CERTIFICATE REQUEST-----\s*",
)
_NEWLINES = b"\r\n"
# Every text that names a subject by CN holds this OID's DER, so its absence
# spares us the parsing of the name.
_COMMON_NAME_DER = bytes.fromhex("0603550403")

# cryptography reads the first attribute of these kinds and never looks for another:
# extensionRequest (RFC 2985 5.4.2) and Microsoft's of the same meaning.
_EXTENSION_REQUESTS_DER = (
    bytes.fromhex("06092a864886f70d01090e"),
    bytes.fromhex("060a2b06010401823702010e"),
)

_PKCS1V15 = padding.PKCS1v15()
_FAMILIES = {
    KeyAlgorithm.RSA: "rsa",
    KeyAlgorithm.P256: "ec",
    KeyAlgorithm.P384: "ec",
    KeyAlgorithm.ED25519: "ed25519",
}
# (kind of key, signature algorithm) -> what its `verify` wants to know
_SCHEMES: dict[tuple[str, ObjectIdentifier], tuple[object, ...]] = {
    ("rsa", SignatureAlgorithmOID.RSA_WITH_SHA256): (_PKCS1V15, hashes.SHA256()),
    ("rsa", SignatureAlgorithmOID.RSA_WITH_SHA384): (_PKCS1V15, hashes.SHA384()),
    ("rsa", SignatureAlgorithmOID.RSA_WITH_SHA512): (_PKCS1V15, hashes.SHA512()),
    ("ec", SignatureAlgorithmOID.ECDSA_WITH_SHA256): (ec.ECDSA(hashes.SHA256()),),
    ("ec", SignatureAlgorithmOID.ECDSA_WITH_SHA384): (ec.ECDSA(hashes.SHA384()),),
    ("ec", SignatureAlgorithmOID.ECDSA_WITH_SHA512): (ec.ECDSA(hashes.SHA512()),),
    ("ed25519", SignatureAlgorithmOID.ED25519): (),
}
_CURVES = {"secp256r1": KeyAlgorithm.P256, "secp384r1": KeyAlgorithm.P384}


def parse_csr(csr_pem: bytes) -> CertificateRequest:
    """Read one PEM request and check its signature.

    Args:
        csr_pem: Exactly one block, nothing before it, white space at most
            behind it.

    Returns:
        The request's public key and the names it asks for.

    Raises:
        InvalidCsr: Anything else; the text is fixed and safe to tell.
    """
    der = _decode_pem(csr_pem)
    try:
        csr = x509.load_der_x509_csr(der)
        key, signed, signature = csr.public_key(), csr.tbs_certrequest_bytes, csr.signature
        public_key = _read_public_key(key)
        _check_signature(csr.signature_algorithm_oid, key, public_key, signature, signed)
        extensions = _extensions(csr, signed)
        wants_common_name = _has_common_name(csr, signed)
    except UNREADABLE_X509 as cause:
        raise InvalidCsr(NOT_PARSABLE) from cause
    if public_key.spki_der not in signed:
        msg = "the public key is not in canonical form"
        raise InvalidCsr(msg)
    if not der.endswith(b"\0" + signature):  # unused bits in the BIT STRING
        msg = "the signature is not in canonical form"
        raise InvalidCsr(msg)
    uris, others = _names(extensions)
    return CertificateRequest(
        public_key=public_key,
        uri_sans=uris,
        other_sans=others,
        wants_common_name=wants_common_name,
        csr_sha256=hashlib.sha256(der).digest(),
    )


def _decode_pem(csr_pem: bytes) -> bytes:
    if len(csr_pem) > MAX_CSR_BYTES:
        msg = f"certificate signing request is larger than {MAX_CSR_BYTES} bytes"
        raise InvalidCsr(msg)
    block = _PEM.fullmatch(csr_pem)
    if block is None:
        raise InvalidCsr(NOT_PEM)
    try:
        return binascii.a2b_base64(block[1].translate(None, _NEWLINES), strict_mode=True)
    except binascii.Error as cause:
        raise InvalidCsr(NOT_PEM) from cause


def _read_public_key(key: object) -> PublicKey:
    """Name a key's kind and take its canonical encoding.

    Raises:
        InvalidCsr: A kind, curve or exponent that no policy can allow.
    """
    match key:
        case rsa.RSAPublicKey():
            if key.key_size > MAX_RSA_BITS or key.public_numbers().e != RSA_EXPONENT:
                msg = f"RSA keys need exponent {RSA_EXPONENT} and at most {MAX_RSA_BITS} bits"
                raise InvalidCsr(msg)
            algorithm, bits = KeyAlgorithm.RSA, key.key_size
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            algorithm, bits = _CURVES[key.curve.name], key.key_size
        case ed25519.Ed25519PublicKey():
            algorithm, bits = KeyAlgorithm.ED25519, 256
        case _:
            msg = "public keys must be RSA, P-256, P-384 or Ed25519"
            raise InvalidCsr(msg)
    spki_der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(
        algorithm=algorithm,
        bits=bits,
        spki_der=spki_der,
        sha256=hashlib.sha256(spki_der).digest(),
    )


def _check_signature(
    oid: ObjectIdentifier, key: Any, public_key: PublicKey, signature: bytes, signed: bytes
) -> None:
    """Check proof of possession with the key that was already loaded.

    `csr.is_signature_valid` would load it again, which costs more than an RSA
    verification.

    Raises:
        InvalidCsr: Another's signature, or an algorithm that is weak, foreign
            to the key, or unknown.
    """
    scheme = _SCHEMES.get((_FAMILIES[public_key.algorithm], oid))
    if scheme is None:
        msg = "the signature algorithm is not supported for this key"
        raise InvalidCsr(msg)
    try:
        key.verify(signature, signed, *scheme)
    except InvalidSignature as cause:
        msg = "the signature does not match the public key"
        raise InvalidCsr(msg) from cause


def _has_common_name(csr: x509.CertificateSigningRequest, signed: bytes) -> bool:
    if _COMMON_NAME_DER not in signed:
        return False
    return bool(csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME))


def _extensions(csr: x509.CertificateSigningRequest, signed: bytes) -> x509.Extensions:
    """Return all that is asked for.

    Raises:
        InvalidCsr: It stands in two places, so that two readers may see two things.
        ValueError: It cannot be read.
    """
    if sum(map(signed.count, _EXTENSION_REQUESTS_DER)) > 1:
        msg = "extensions are requested more than once"
        raise InvalidCsr(msg)
    return csr.extensions


def _names(extensions: x509.Extensions) -> tuple[tuple[str, ...], int]:
    """Return the URIs asked for, and how many names of other kinds.

    No names at all are fine, an empty list of names is not. A request to become
    a CA is refused: it is a mistake or an attack, never Istio's.

    Source: RFC 5280 4.2.1.6 (at least one entry); istio
    security/pkg/pki/ra/common.go preSign.
    """
    uris: tuple[str, ...] = ()
    others = 0
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                uris = tuple(
                    n.value for n in names if isinstance(n, x509.UniformResourceIdentifier)
                )
                others = len(list(names)) - len(uris)
                if not uris and not others:
                    raise InvalidCsr(NOT_PARSABLE)
            case x509.BasicConstraints(ca=True):
                raise InvalidCsr(ASKS_FOR_CA)
            case x509.KeyUsage() as usage if usage.key_cert_sign or usage.crl_sign:
                raise InvalidCsr(ASKS_FOR_CA)
    return uris, others
