"""Checks every certificate against its own order before it leaves.

Decides whether a chain is what was ordered: key, names, validity, usages,
issuer, signature, roots. It shares no code with `profile`: what it compares
with is made of cryptography's own encodings. A certificate of our own making
equals, byte for byte, what is expected, and only its signature is left to
verify; any other is read field by field, and every difference is named.

Source: RFC 5280 4 and 6; docs/standards.md 4, 8, 22, 24 to 29, 33.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from meshsigner.errors import UNREADABLE_X509, WrongCertificate
from meshsigner.issuer_path import name_of, path_faults
from meshsigner.model import Chain, Issuer, Order, Terms

MIN_SERIAL_BITS = 64  # entropy that a predictable serial would lack
MAX_SERIAL_BITS = 159  # 20 octets with the sign bit clear, RFC 5280 4.1.2.2

_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_KEY_USAGE_OID = bytes.fromhex("0603551d0f")  # DER of 2.5.29.15
_LEAF_EXTENDED_USAGE = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
)
_LEAF_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)
_LEAF_EXTENSIONS = frozenset(
    {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    },
)
_SHA256, _SHA384 = hashes.SHA256(), hashes.SHA384()
_PKCS1V15 = padding.PKCS1v15()


_IssuerKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def check_issued(chain: Chain, order: Order, *, proven: set[Issuer] | None = None) -> Chain:
    """Check an answer against its own order.

    Args:
        chain: What a signer returned.
        order: What it was asked for.
        proven: Issuers of which a later signature of the same turn has been
            verified. That proves an earlier one which was computed twice, alike:
            it is not verified again (docs/adr/0003). Grows by what is verified here.

    Returns:
        The same chain.

    Raises:
        WrongCertificate: Anything differs; all differences are in the error.
    """
    try:
        facts = _issuer_facts(chain.issuer)
        expected = _expected_tbs(facts, order, chain.serial)
        signature = _signature_behind(expected + facts.algorithm, chain.leaf_der)
        if signature is not None:
            _verify(facts, signature, expected, chain, set() if proven is None else proven)
        else:
            leaf = x509.load_der_x509_certificate(chain.leaf_der)
            _refuse(_differences(leaf, chain, order))
            facts.check_signature(leaf, chain.leaf_der)
    except UNREADABLE_X509 as cause:
        raise WrongCertificate(("not a readable certificate",)) from cause
    except InvalidSignature as cause:
        raise WrongCertificate(("not signed by its issuer",)) from cause
    _refuse(_bounds(chain, order))
    return chain


def check_issuer(issuer: Issuer, now: datetime) -> Issuer:
    """Check all that stands above the leaves, at a time.

    Args:
        issuer: A CA certificate with intermediates and roots.
        now: Time at which all of them must be valid.

    Returns:
        The same issuer.

    Raises:
        WrongCertificate: The issuer cannot sign leaves that verify; all
            reasons are in the error.

    Source: RFC 5280 6.1.
    """
    _refuse(
        [
            *path_faults(issuer),
            *(
                f"{name_of(certificate)} is not valid at {now:%Y-%m-%d %H:%M:%S}Z"
                for certificate in (*issuer.intermediates, *issuer.trust_bundle.certificates[:1])
                if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
            ),
        ],
    )
    return issuer


def _refuse(differences: list[str]) -> None:
    if differences:
        raise WrongCertificate(tuple(differences))


# --- what is expected, byte for byte ---------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _IssuerFacts:
    """What is expected of every leaf of one issuer, in cryptography's encodings.

    `scheme` is what the key's `verify` wants beside signature and message.
    """

    public_key: Any
    scheme: tuple[object, ...]
    algorithm: bytes
    name: bytes
    extensions: bytes

    def check_signature(self, leaf: x509.Certificate, leaf_der: bytes) -> None:
        """Verify a leaf's signature with the issuer's loaded key.

        Raises:
            InvalidSignature: It is not the issuer's, or says to be of another
                kind than the signed part says (RFC 5280 4.1.1.2).
        """
        signature, signed = leaf.signature, leaf.tbs_certificate_bytes
        outer = signed + self.algorithm + _tlv(0x03, b"\0" + signature)
        if leaf_der != _tlv(0x30, outer):
            raise InvalidSignature
        self.public_key.verify(signature, signed, *self.scheme)


def _issuer_key(issuer: Issuer) -> _IssuerKey:
    key = issuer.certificate.public_key()
    if not isinstance(key, _IssuerKey):
        raise WrongCertificate(("the issuer's key is neither RSA nor elliptic-curve",))
    return key


def _digest(key: _IssuerKey) -> hashes.SHA256 | hashes.SHA384:
    """Choose the hash that goes with an issuer's key.

    Source: istio-compatible: Go signs with SHA-384 for P-384, SHA-256 otherwise.
    """
    is_p384 = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"
    return _SHA384 if is_p384 else _SHA256


@lru_cache(maxsize=16)
def _issuer_facts(issuer: Issuer) -> _IssuerFacts:
    """Check an issuer's path once, and derive what its leaves must look like.

    The constant parts are cut out of a certificate that cryptography's builder
    makes with the issuer's name and a throw-away key of the issuer's kind.

    Raises:
        WrongCertificate: The issuer's own path does not verify.
    """
    _refuse(path_faults(issuer))
    public_key = _issuer_key(issuer)
    sample = _sample_leaf(issuer, public_key)
    tbs = sample.tbs_certificate_bytes
    spki = sample.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = issuer.certificate.subject.public_bytes()
    serial_end = tbs.index(_tlv(0x02, b"\x01")) + 3
    name_end = tbs.index(name, serial_end) + len(name)
    spki_end = tbs.index(spki, name_end) + len(spki)
    first_extension = tbs.index(_KEY_USAGE_OID, spki_end) - 2
    is_rsa = isinstance(public_key, rsa.RSAPublicKey)
    return _IssuerFacts(
        public_key=public_key,
        scheme=(_PKCS1V15, _SHA256) if is_rsa else (ec.ECDSA(_digest(public_key)),),
        algorithm=tbs[serial_end : name_end - len(name)],
        name=name,
        extensions=tbs[first_extension:],
    )


def _sample_leaf(issuer: Issuer, public_key: _IssuerKey) -> x509.Certificate:
    """Build the leaf of nobody: serial 1, no subject, no names."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if isinstance(public_key, rsa.RSAPublicKey)
        else ec.generate_private_key(public_key.curve)
    )
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.certificate.subject)
        .subject_name(x509.Name([]))
        .serial_number(1)
        .not_valid_before(issuer.certificate.not_valid_before_utc)
        .not_valid_after(issuer.certificate.not_valid_after_utc)
        .public_key(key.public_key())
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(_LEAF_EXTENDED_USAGE, critical=False)
        .add_extension(_LEAF_CONSTRAINTS, critical=True)
    )
    key_id = _subject_key_id(issuer.certificate)
    if key_id is not None:
        authority = x509.AuthorityKeyIdentifier(key_id, None, None)
        builder = builder.add_extension(authority, critical=False)
    return builder.sign(key, _digest(public_key))


def _subject_key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return found.value.digest


def _tlv(tag: int, content: bytes) -> bytes:
    """Encode DER; `profile` has its own, on purpose: neither may hide the other's fault."""
    size = len(content)
    if size > 0xFF:  # noqa: PLR2004 - X.690 8.1.3.5
        return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content
    return bytes((tag, 0x81, size) if size > 0x7F else (tag, size)) + content  # noqa: PLR2004


def _verify(
    facts: _IssuerFacts, signature: bytes, signed: bytes, chain: Chain, proven: set[Issuer]
) -> None:
    if chain.signed_twice and chain.issuer in proven:
        return
    facts.public_key.verify(signature, signed, *facts.scheme)
    proven.add(chain.issuer)


def _signature_behind(signed: bytes, leaf_der: bytes) -> bytes | None:
    """Return the signature of a certificate that begins with exactly what is expected.

    Such a certificate needs no parser: every byte before the signature is known.

    Args:
        signed: DER of the expected TBSCertificate and signatureAlgorithm.
        leaf_der: What was issued.

    Returns:
        None for any other certificate, or one that is not canonical DER.
    """
    tail = leaf_der[leaf_der.find(signed) + len(signed) :]
    length_octets = max(tail[1] - 0x80, 0) if len(tail) > 1 else 0  # X.690 8.1.3.5
    signature = tail[3 + length_octets :]
    whole = _tlv(0x30, signed + _tlv(0x03, b"\0" + signature))
    return signature if whole == leaf_der else None


def _expected_tbs(facts: _IssuerFacts, order: Order, serial: int) -> bytes:
    """Join cryptography's encodings to the TBSCertificate that an order asks for."""
    terms = order.terms
    return _tlv(
        0x30,
        b"\xa0\x03\x02\x01\x02"
        + _tlv(0x02, serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True))
        + facts.algorithm
        + facts.name
        + _expected_validity(terms.not_before, terms.not_after)
        + _expected_subject(terms.common_name)
        + order.request.public_key.spki_der
        + _tlv(0xA3, _tlv(0x30, facts.extensions + _expected_names(terms.identity.uri))),
    )


@lru_cache(maxsize=64)
def _expected_validity(not_before: datetime, not_after: datetime) -> bytes:
    def encode(moment: datetime) -> bytes:
        text = f"{moment:%Y%m%d%H%M%S}Z".encode()
        return _tlv(0x17, text[2:]) if text < b"2050" else _tlv(0x18, text)

    return _tlv(0x30, encode(not_before) + encode(not_after))


def _expected_subject(common_name: str | None) -> bytes:
    if common_name is None:
        return b"\x30\x00"
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]).public_bytes()


@lru_cache(maxsize=16_384)
def _expected_names(uri: str) -> bytes:
    """Encode the critical subjectAltName of one identity."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    oid_and_critical = bytes.fromhex("0603551d110101ff")
    return _tlv(0x30, oid_and_critical + _tlv(0x04, names.public_bytes()))


# --- what is found, field by field ------------------------------------------


def _bounds(chain: Chain, order: Order) -> list[str]:
    """Compare the order with its issuer: what equal bytes alone cannot show."""
    differences = []
    if not MIN_SERIAL_BITS < chain.serial.bit_length() <= MAX_SERIAL_BITS:
        differences.append(f"serial of {chain.serial.bit_length()} bits")
    if order.terms.not_after > chain.issuer.not_after:
        differences.append("outlives its issuer")
    return differences


def _differences(leaf: x509.Certificate, chain: Chain, order: Order) -> list[str]:
    """Name every field of a leaf that is not as ordered."""
    terms = order.terms
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    expected = {
        "version": (leaf.version, x509.Version.v3),
        "serial": (leaf.serial_number, chain.serial),
        "issuer": (leaf.issuer, chain.issuer.certificate.subject),
        "public key": (key, order.request.public_key.spki_der),
        "subject": (leaf.subject.public_bytes(), _expected_subject(terms.common_name)),
        "not before": (leaf.not_valid_before_utc, terms.not_before),
        "not after": (leaf.not_valid_after_utc, terms.not_after),
    }
    differences = [f"{field} differs" for field, (is_, want) in expected.items() if is_ != want]
    return [*differences, *_extension_differences(leaf.extensions, chain.issuer, terms)]


def _extension_differences(found: x509.Extensions, issuer: Issuer, terms: Terms) -> Iterator[str]:
    values = {extension.oid: extension for extension in found}
    uri = x509.UniformResourceIdentifier(terms.identity.uri)
    required = {
        "key usage": (_LEAF_USAGE, True),
        "basic constraints": (_LEAF_CONSTRAINTS, True),
        "subject alternative name": (x509.SubjectAlternativeName([uri]), True),
    }
    for field, (value, critical) in required.items():
        extension = values.get(value.oid)
        if extension is None or (extension.value, extension.critical) != (value, critical):
            yield f"{field} differs"
    usage = values.get(ExtensionOID.EXTENDED_KEY_USAGE)
    if usage is None or set(usage.value) != set(_LEAF_EXTENDED_USAGE):
        yield "extended key usage differs"
    authority = values.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
    key_id = None if authority is None else authority.value.key_identifier
    if key_id != _subject_key_id(issuer.certificate):
        yield "authority key identifier differs"
    for oid in values.keys() - _LEAF_EXTENSIONS:
        yield f"extension {oid.dotted_string} was not ordered"
