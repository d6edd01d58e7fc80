"""A CA key in this process's memory, as a `KeySigner`.

Talks to cryptography alone. Which hash goes with which key is fixed here and
in `profile`, from the same table: an issuer's key decides both.

Source: RFC 5758 3.2 (ECDSA), RFC 4055 5 (RSA); Go's crypto/x509 chooses the
same for istiod.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from meshsigner.errors import BackendUnavailable
from meshsigner.ports import KeySigner

_TWICE_SHA256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_ECDSA_SHA384 = ec.ECDSA(hashes.SHA384())
FAULTY = "the CA's key gave two signatures of one message: memory or processor is faulty"
_PKCS1V15 = padding.PKCS1v15()
_SHA256 = hashes.SHA256()


class P256Key:
    """A P-256 key, which signs everything twice: a computation gone wrong is found out.

    The nonce follows from key and message (RFC 6979), so that both signatures
    are the same. To compute a second one takes 26 us, to verify the first 64.
    One that differs never leaves: it could betray the key.

    Args:
        key: The CA's private key.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def sign(self, message: bytes) -> bytes:
        """Sign with SHA-256.

        Args:
            message: DER of a TBSCertificate.

        Returns:
            DER of an ECDSA-Sig-Value (RFC 3279 2.2.3).

        Raises:
            BackendUnavailable: The two signatures differ.
        """
        signature = self._key.sign(message, _TWICE_SHA256)
        if self._key.sign(message, _TWICE_SHA256) != signature:
            raise BackendUnavailable(FAULTY)
        return signature


class OnceKey:
    """An RSA or P-384 key, which signs once: its signatures are verified, each of them.

    Args:
        key: The CA's private key.
        *scheme: What its `sign` wants beside the message.
    """

    def __init__(
        self, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *scheme: object
    ) -> None:
        self._sign: Callable[..., bytes] = key.sign
        self._scheme = scheme

    def sign(self, message: bytes) -> bytes:
        """Sign.

        Args:
            message: DER of a TBSCertificate.

        Returns:
            RSA: the signature, as long as the modulus (RFC 8017 8.2.1); P-384:
            DER of an ECDSA-Sig-Value (RFC 3279 2.2.3).
        """
        return self._sign(message, *self._scheme)


def local_key(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> KeySigner:
    """Return the signer for a private key in memory.

    Args:
        key: RSA, P-256 or P-384; `trust` takes no other.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return OnceKey(key, _PKCS1V15, _SHA256)
    return OnceKey(key, _ECDSA_SHA384) if isinstance(key.curve, ec.SECP384R1) else P256Key(key)
