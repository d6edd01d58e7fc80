"""The certification request of an intermediate CA, signed wherever its key is.

Decides what is asked for: a CA with no other CA below it, which may sign
certificates and CRLs. What people put into the certificate in the end is
judged at the handover. The DER is built here, because cryptography's builder
signs with keys in memory alone.

Source: RFC 2986 4 (CertificationRequest), RFC 2985 5.4.2 (extensionRequest).
"""

from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner.errors import ConfigurationError
from meshsigner.profile import tlv
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.making import ca_extensions, ca_name
from meshsigner.spiffe import TrustDomain

_SEQUENCE, _SET, _BOOLEAN, _BIT_STRING, _OCTET_STRING, _OID = 0x30, 0x31, 0x01, 0x03, 0x04, 0x06
_VERSION_0 = bytes.fromhex("020100")
_ATTRIBUTES = 0xA0  # [0] IMPLICIT
_EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
_TRUE = tlv(_BOOLEAN, b"\xff")
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")
_RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")


def build_request(
    public_key: CaPublicKey, trust_domain: TrustDomain, sign: Callable[[bytes], bytes]
) -> bytes:
    """Make the request.

    Args:
        public_key: The new CA's.
        trust_domain: Becomes the organization.
        sign: Signs with the private key, as `ports.KeySigner` does.

    Returns:
        PEM.

    Raises:
        ConfigurationError: The signature does not verify: the keys are no pair.
    """
    body = _body(public_key, trust_domain)
    signature = tlv(_BIT_STRING, b"\0" + sign(body))
    der = tlv(_SEQUENCE, body + _algorithm(public_key) + signature)
    request = x509.load_der_x509_csr(der)
    try:
        valid = request.is_signature_valid
    except InvalidSignature:
        valid = False
    if not valid:
        raise ConfigurationError(
            "the key's signature does not verify under its public key; expected a pair; check that "
            "both halves on the token have the same id"
        )
    return request.public_bytes(Encoding.PEM)


def _body(public_key: CaPublicKey, trust_domain: TrustDomain) -> bytes:
    name = ca_name(trust_domain, "intermediate", public_key).public_bytes()
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    extensions = tlv(_SEQUENCE, b"".join(_extensions(public_key)))
    attribute = tlv(_SEQUENCE, _EXTENSION_REQUEST + tlv(_SET, extensions))
    return tlv(_SEQUENCE, _VERSION_0 + name + spki + tlv(_ATTRIBUTES, attribute))


def _extensions(public_key: CaPublicKey) -> list[bytes]:
    return [
        tlv(
            _SEQUENCE,
            _encode_oid(extension.oid)
            + (_TRUE if critical else b"")
            + tlv(_OCTET_STRING, extension.public_bytes()),
        )
        for extension, critical in ca_extensions(public_key, path_length=0)
    ]


def _encode_oid(oid: x509.ObjectIdentifier) -> bytes:
    """Encode an OID below 2.5.29, as those of all extensions here are (X.690 8.19)."""
    return tlv(_OID, bytes((0x55, 0x1D, int(oid.dotted_string.rpartition(".")[2]))))


def _algorithm(public_key: CaPublicKey) -> bytes:
    match public_key:
        case rsa.RSAPublicKey():
            return _RSA_SHA256
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return _ECDSA_SHA384
    return _ECDSA_SHA256
