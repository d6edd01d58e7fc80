"""A CA key on a token, for people at the command line: found or made, its public half, a signature.

The same checks as for a server that signs with it. A new key is made on the
token, SENSITIVE and not EXTRACTABLE, so that it never was anywhere else. One
thread, one session, for the length of a command.
"""

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass
from pkcs11.exceptions import PKCS11Error
from pkcs11.util.ec import encode_ec_public_key, encode_named_curve_parameters
from pkcs11.util.rsa import encode_rsa_public_key

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.pkcs11.assembly import place_of
from meshsigner.signing.pkcs11.key import describe_fault
from meshsigner.signing.pkcs11.module import DEVICE_FAULTS, Module
from meshsigner.signing.pkcs11.opening import (
    OpenKey,
    Place,
    check_closed,
    find_private_key,
    find_token,
    log_in,
    open_key,
)
from meshsigner.signing.pkcs11.pin import PinGuard
from meshsigner.signing.pkcs11.settings import Pkcs11Token

CURVES = {"p256": "secp256r1", "p384": "secp384r1"}
_ID_BYTES = 8


class TokenKey:
    """A key on a token, in an open session.

    Args:
        opened: Checked.
        public_key: Its public half.
    """

    def __init__(self, opened: OpenKey, public_key: CaPublicKey) -> None:
        self.public_key = public_key
        self._opened = opened

    def sign(self, message: bytes) -> bytes:
        """Sign a message as X.509 has it."""
        return self._opened.sign(message)

    def close(self) -> None:
        """End its session."""
        self._opened.close()


@contextmanager
def token_key(
    settings: Pkcs11Token, *, make: str | None = None, pin: PinGuard | None = None
) -> Iterator[TokenKey]:
    """Open the key that the settings name.

    Args:
        settings: Of a backend.
        make: Kind of a key to make on the token first, unless there is one:
            `p256`, `p384`, `rsa-2048` and so on; None makes none.
        pin: Logs in, where it remembers refusals for longer than this block;
            None reads the settings'.

    Yields:
        The key, until the block ends.

    Raises:
        BackendUnavailable: Token or key are not there, or the login is refused.
        ConfigurationError: The key may not be used.
    """
    user = object()
    module = Module.join(settings.module, user)
    try:
        module.load(locking=False)
        with module.calling():
            key = _open(module, settings, make, pin or PinGuard(settings.pin_source, None))
            with closing(key):
                yield key
    except DEVICE_FAULTS as error:
        raise BackendUnavailable(describe_fault(error)) from error
    finally:
        module.leave(user)


def _open(module: Module, settings: Pkcs11Token, make: str | None, pin: PinGuard) -> TokenKey:
    place = place_of(settings)
    token = find_token(module, place)
    with token.open(rw=make is not None) as session:
        log_in(module, token, session, pin)
        if make is not None and not _has_key(session, place):
            _make(session, place, make)
        private = find_private_key(session, place)
        check_closed(private, place)
        public_key = _public_half(session, private, place)
        return TokenKey(open_key(module, place, pin, public_key), public_key)


def _has_key(session: pkcs11.Session, place: Place) -> bool:
    try:
        find_private_key(session, place)
    except BackendUnavailable:
        return False
    return True


def _make(session: pkcs11.Session, place: Place, kind: str) -> None:
    """Make a pair on the token; nothing of the private half can ever leave it."""
    closed = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.SIGN: True}
    what: dict[str, Any] = {
        "id": place.key_id or secrets.token_bytes(_ID_BYTES),
        "label": place.key_label,
        "store": True,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": closed,
    }
    if kind in CURVES:
        parameters = {Attribute.EC_PARAMS: encode_named_curve_parameters(CURVES[kind])}
        domain = session.create_domain_parameters(KeyType.EC, parameters, local=True)
        domain.generate_keypair(**what)
    else:
        session.generate_keypair(KeyType.RSA, int(kind.removeprefix("rsa-")), **what)


def _public_half(session: pkcs11.Session, private: pkcs11.PrivateKey, place: Place) -> CaPublicKey:
    """Find the public key that has the private one's id."""
    wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: private[Attribute.ID]}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        raise ConfigurationError(
            f"the token has {len(found)} public keys beside the private key with {place.key}; "
            "expected one with the same CKA_ID, from which the request is made; bring it there"
        )
    try:
        return _load(found[0])
    except (PKCS11Error, ValueError) as error:
        raise ConfigurationError(
            f"the public key beside {place.key} cannot be read ({type(error).__name__}); expected "
            "RSA, P-256 or P-384; make the CA a key of such a kind"
        ) from error


def _load(public: Any) -> CaPublicKey:
    is_rsa = public[Attribute.KEY_TYPE] == KeyType.RSA
    der = encode_rsa_public_key(public) if is_rsa else encode_ec_public_key(public)
    return load_der_public_key(der)  # type: ignore[return-value] # of one of these two kinds
