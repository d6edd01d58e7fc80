"""The bytes of an answer, written by hand: the leaf is new, all the rest is constant.

Decides the layout of the chain: the leaf, one intermediate an element from the
leaf's issuer towards the root, and all trust anchors unsplit in the last
element. What the elements hold was decided by `signing` and checked by `verify`.

Source: istio security/pkg/server/ca/server.go CreateCertificate;
protobuf's encoding of `repeated string cert_chain = 1`.
"""

import binascii

from meshsigner.model import Chain, Issuer

_CERT_CHAIN_TAG = b"\x0a"  # field 1, length-delimited
_DER_BYTES_A_LINE = 48  # 64 characters of base64 (RFC 7468 2)
_KEPT_TAILS = 16  # one for each backend, and the ones before their last reload
_MAX_ONE_BYTE_VARINT = 0x7F


class AnswerEncoder:
    """Encodes answers; keeps the constant part of each issuer.

    An issuer is compared by object: a reload makes a new one, whose tail is
    made anew.
    """

    def __init__(self) -> None:
        self._tails: dict[Issuer, bytes] = {}

    def encode(self, chain: Chain) -> bytes:
        """Return the serialised `IstioCertificateResponse`.

        Args:
            chain: A checked answer.
        """
        tail = self._tails.get(chain.issuer)
        if tail is None:
            tail = self._keep(chain.issuer)
        return _element(leaf_pem(chain.leaf_der)) + tail

    def _keep(self, issuer: Issuer) -> bytes:
        if len(self._tails) >= _KEPT_TAILS:
            del self._tails[next(iter(self._tails))]
        elements = (*issuer.chain_pem, issuer.trust_bundle.pem)
        tail = b"".join(_element(pem.encode()) for pem in elements)
        self._tails[issuer] = tail
        return tail


def leaf_pem(der: bytes) -> bytes:
    """Return a certificate in PEM, one newline at its end.

    Args:
        der: The certificate.

    Source: RFC 7468 2 and 5.1 (64 characters a line).
    """
    lines = [
        binascii.b2a_base64(der[start : start + _DER_BYTES_A_LINE])
        for start in range(0, len(der), _DER_BYTES_A_LINE)
    ]
    return b"-----BEGIN CERTIFICATE-----\n" + b"".join(lines) + b"-----END CERTIFICATE-----\n"


def _element(pem: bytes) -> bytes:
    return _CERT_CHAIN_TAG + _varint(len(pem)) + pem


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > _MAX_ONE_BYTE_VARINT:
        encoded.append(number & _MAX_ONE_BYTE_VARINT | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
