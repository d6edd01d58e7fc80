"""A CA key in this process's memory, as a `KeySigner`.

Talks to cryptography alone. Which hash goes with which key is fixed here and
in `profile`, from the same table: an issuer's key decides both.

Source: RFC 5758 3.2 (ECDSA), RFC 4055 5 (RSA); Go's crypto/x509 chooses the
same for istiod.
"""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from meshsigner.ports import KeySigner

_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
_ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())
_PKCS1V15 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


class EcdsaKey:
    """A P-256 or P-384 key.

    Args:
        key: The CA's private key.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._algorithm = _ECDSA_SHA384 if isinstance(key.curve, ec.SECP384R1) else _ECDSA_SHA256

    def sign(self, message: bytes) -> bytes:
        """Sign with SHA-256 (P-256) or SHA-384 (P-384).

        Args:
            message: DER of a TBSCertificate.

        Returns:
            DER of an ECDSA-Sig-Value (RFC 3279 2.2.3).
        """
        return self._key.sign(message, self._algorithm)


class RsaKey:
    """An RSA key.

    Args:
        key: The CA's private key.
    """

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        """Sign with PKCS #1 v1.5 and SHA-256.

        Args:
            message: DER of a TBSCertificate.

        Returns:
            The signature, as long as the modulus (RFC 8017 8.2.1).
        """
        return self._key.sign(message, _PKCS1V15, _SHA256)


def local_key(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> KeySigner:
    """Return the signer for a private key in memory.

    Args:
        key: RSA, P-256 or P-384; `trust` takes no other.
    """
    return RsaKey(key) if isinstance(key, rsa.RSAPrivateKey) else EcdsaKey(key)
