"""The profile of a workload certificate, as DER.

Decides how `Terms` look as a TBSCertificate: Istio's profile, field by field.
All that the issuer alone decides is encoded once, in a `Template`; a
certificate then costs a few concatenations instead of a builder's work. Serial
numbers and signatures are arguments; that the result equals what
cryptography's builder makes is a property test, and `verify` checks every
certificate with code that shares nothing with this.

Source: RFC 5280 4.1 and 4.2; istio security/pkg/pki/util/generate_cert.go, san.go.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner.model import Issuer, Order

_SEQUENCE, _SET, _INTEGER, _BIT_STRING, _OCTET_STRING = 0x30, 0x31, 0x02, 0x03, 0x04
_UTF8_STRING, _UTC_TIME, _GENERALIZED_TIME = 0x0C, 0x17, 0x18
_URI_NAME = 0x86  # GeneralName [6] IA5String, RFC 5280 4.2.1.6
_EXPLICIT_3 = 0xA3
_SHORT_LENGTH = 0x80
_FIRST_GENERALIZED_YEAR = 2050  # RFC 5280 4.1.2.5

_VERSION_3 = bytes.fromhex("a003020102")
_COMMON_NAME = bytes.fromhex("0603550403")
# keyUsage, critical: digitalSignature, keyEncipherment (also for EC keys, as istiod).
_KEY_USAGE = bytes.fromhex("300e0603551d0f0101ff0404030205a0")
# extendedKeyUsage: serverAuth, clientAuth, in istiod's order.
_EXTENDED_KEY_USAGE = bytes.fromhex(
    "301d0603551d250416301406082b0601050507030106082b06010505070302",
)
# basicConstraints, critical, an empty sequence: CA is FALSE by default.
_BASIC_CONSTRAINTS = bytes.fromhex("300c0603551d130101ff04023000")
_AUTHORITY_KEY_ID = bytes.fromhex("0603551d23")
# subjectAltName, critical always, for the subject is empty (RFC 5280 4.2.1.6).
_SUBJECT_ALT_NAME_CRITICAL = bytes.fromhex("0603551d110101ff")

_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")


def tlv(tag: int, content: bytes) -> bytes:
    """Encode one DER element.

    Source: X.690 8.1 and 10.1 (definite length, fewest octets).
    """
    size = len(content)
    if size < _SHORT_LENGTH:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _SHORT_LENGTH | len(octets))) + octets + content


def _signature_algorithm(issuer: Issuer) -> bytes:
    match issuer.certificate.public_key():
        case rsa.RSAPublicKey():
            return _RSA_SHA256
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return _ECDSA_SHA256
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return _ECDSA_SHA384
    msg = "an issuer's key must be RSA, P-256 or P-384"
    raise ValueError(msg)


def _authority_key_id(issuer: Issuer) -> bytes:
    """Encode authorityKeyIdentifier, or nothing where the issuer has no SKI (as Go does)."""
    try:
        ski = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return b""
    key_id = tlv(_SEQUENCE, tlv(0x80, ski.value.digest))
    return tlv(_SEQUENCE, _AUTHORITY_KEY_ID + tlv(_OCTET_STRING, key_id))


def _time(moment: datetime) -> bytes:
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return tlv(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(_GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


@lru_cache(maxsize=64)
def _validity(not_before: datetime, not_after: datetime) -> bytes:
    """Encode Validity; the orders of one second mostly share it."""
    return tlv(_SEQUENCE, _time(not_before) + _time(not_after))


def _subject(common_name: str | None) -> bytes:
    if common_name is None:
        return tlv(_SEQUENCE, b"")
    attribute = tlv(_SEQUENCE, _COMMON_NAME + tlv(_UTF8_STRING, common_name.encode()))
    return tlv(_SEQUENCE, tlv(_SET, attribute))


def _subject_alt_name(uri: str) -> bytes:
    names = tlv(_SEQUENCE, tlv(_URI_NAME, uri.encode("ascii")))
    return tlv(_SEQUENCE, _SUBJECT_ALT_NAME_CRITICAL + tlv(_OCTET_STRING, names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """All of a leaf that its issuer alone decides, encoded.

    Attributes:
        algorithm: AlgorithmIdentifier of the issuer's signatures.
        issuer_name: The issuer's subject, byte for byte.
        extensions: keyUsage, extendedKeyUsage, basicConstraints and
            authorityKeyIdentifier, in istiod's order.
    """

    algorithm: bytes
    issuer_name: bytes
    extensions: bytes

    @classmethod
    def of(cls, issuer: Issuer) -> Self:
        """Encode an issuer's part.

        Raises:
            ValueError: The issuer's key is neither RSA, P-256 nor P-384.
        """
        return cls(
            algorithm=_signature_algorithm(issuer),
            issuer_name=issuer.certificate.subject.public_bytes(),
            extensions=_KEY_USAGE
            + _EXTENDED_KEY_USAGE
            + _BASIC_CONSTRAINTS
            + _authority_key_id(issuer),
        )

    def build_tbs(self, order: Order, serial: int) -> bytes:
        """Encode what will be signed.

        Args:
            order: Its terms and public key go in, nothing else.
            serial: Positive, at most 20 octets (RFC 5280 4.1.2.2).

        Returns:
            DER of the TBSCertificate.
        """
        terms = order.terms
        extensions = self.extensions + _subject_alt_name(terms.identity.uri)
        return tlv(
            _SEQUENCE,
            b"".join(
                (
                    _VERSION_3,
                    tlv(_INTEGER, serial.to_bytes(serial.bit_length() // 8 + 1, "big")),
                    self.algorithm,
                    self.issuer_name,
                    _validity(terms.not_before, terms.not_after),
                    _subject(terms.common_name),
                    order.request.public_key.spki_der,
                    tlv(_EXPLICIT_3, tlv(_SEQUENCE, extensions)),
                ),
            ),
        )

    def assemble(self, tbs: bytes, signature: bytes) -> bytes:
        """Join a TBSCertificate and its signature to a certificate's DER."""
        return tlv(_SEQUENCE, tbs + self.algorithm + tlv(_BIT_STRING, b"\0" + signature))
