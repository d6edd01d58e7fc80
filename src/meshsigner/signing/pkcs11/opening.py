"""From a token to a checked CA key: found, logged in, closed to copying, and the right one.

Decides whether a key on a token may sign for the mesh. It must be the only one
of its name, must not be readable in any way, and must make signatures that
verify under the CA's certificate: that is tried, for a token need not hold the
public key. Each of these has its sentence.

Source: PKCS #11 v2.40 4.9 (CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_SIGN).
"""

import secrets
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from pkcs11 import Attribute, KeyType, ObjectClass, TokenFlag
from pkcs11.exceptions import (
    AttributeTypeInvalid,
    DataLenRange,
    KeySizeRange,
    KeyTypeInconsistent,
    MechanismInvalid,
    NoSuchToken,
    PKCS11Error,
    SlotIDInvalid,
    TokenNotPresent,
    TokenNotRecognised,
)

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.pkcs11.module import Module
from meshsigner.signing.pkcs11.pin import PinGuard
from meshsigner.signing.pkcs11.scheme import Malformed, Scheme, choose_scheme
from meshsigner.trust.pem import describe_key

_ABSENT = (TokenNotPresent, TokenNotRecognised, SlotIDInvalid)
# What tokens answer when a digest or a mechanism does not go with a key.
_OTHER_KIND = (KeyTypeInconsistent, KeySizeRange, DataLenRange, MechanismInvalid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a key is.

    Attributes:
        token_label: The token's label; None to take any.
        token_serial: The token's serial number; None to take any.
        key_label: The private key's CKA_LABEL; None to take any.
        key_id: The private key's CKA_ID; None to take any.
        readable: True lets a key be used that could be copied out: test tokens.
    """

    token_label: str | None = None
    token_serial: str | None = None
    key_label: str | None = None
    key_id: bytes | None = None
    readable: bool = False

    @property
    def token(self) -> str:
        """Name the token in a message."""
        return _name(label=self.token_label, serial=self.token_serial)

    @property
    def key(self) -> str:
        """Name the key in a message."""
        return _name(label=self.key_label, id=self.key_id.hex() if self.key_id else None)


def _name(**parts: str | None) -> str:
    return " and ".join(f"{name} {value!r}" for name, value in parts.items() if value is not None)


class OpenKey:
    """A key in a session, ready to sign; used by one thread.

    Args:
        session: With the token, logged in.
        key: The private key's object.
        scheme: How it signs.
        generation: Of the module; in a later one this is dead.
    """

    def __init__(
        self, session: pkcs11.Session, key: pkcs11.PrivateKey, scheme: Scheme, generation: int
    ) -> None:
        self.generation = generation
        self._session = session
        self._key = key
        self._scheme = scheme

    def sign(self, message: bytes) -> bytes:
        """Sign a message.

        Raises:
            PKCS11Error: The token did not.
            Malformed: What it returned is no signature.
        """
        scheme = self._scheme
        raw = self._key.sign(scheme.prepare(message), mechanism=scheme.mechanism)  # type: ignore[attr-defined]
        return scheme.finish(raw)

    def probe(self) -> None:
        """Ask the token for something small.

        Raises:
            PKCS11Error: Session or key are gone.
        """
        _ = self._key[Attribute.SIGN]

    def close(self) -> None:
        """End the session; only in its own generation, for its number may be another's later."""
        with suppress(PKCS11Error):
            self._session.close()


def open_key(module: Module, place: Place, pin: PinGuard, public_key: CaPublicKey) -> OpenKey:
    """Open a session and check the key.

    Args:
        module: Held by `Module.calling`.
        place: Where the key is.
        pin: Logs in.
        public_key: The CA certificate's.

    Raises:
        BackendUnavailable: Token or key are not there, or the login is refused.
        ConfigurationError: The key is another one, or may not be used.
        PKCS11Error: The device has trouble.
        CallFailed: So it has.
    """
    token = find_token(module, place)
    scheme = choose_scheme(public_key, token.slot.get_mechanisms())
    with ExitStack() as failed:
        session = token.open()
        failed.callback(_close, session)
        log_in(module, token, session, pin)
        key = find_private_key(session, place)
        check_closed(key, place)
        kind = KeyType.RSA if isinstance(public_key, rsa.RSAPublicKey) else KeyType.EC
        if key[Attribute.KEY_TYPE] != kind:
            raise _other_key(place, public_key)
        opened = OpenKey(session, key, scheme, module.generation)
        _check_belongs(opened, place, public_key)
        failed.pop_all()
    return opened


def find_token(module: Module, place: Place) -> pkcs11.Token:
    """Find the one token that is meant.

    Raises:
        NoSuchToken: None is.
        ConfigurationError: Several are.
    """
    found = [token for token in tokens(module) if _is_meant(token, place)]
    if len(found) > 1:
        serials = ", ".join(token.serial.decode(errors="replace") for token in found)
        raise ConfigurationError(
            f"{len(found)} tokens have {place.token} (serial numbers {serials}); expected one; set "
            "`token_serial`"
        )
    if not found:
        present = ", ".join(repr(token.label) for token in tokens(module)) or "none"
        raise NoSuchToken(f"no token has {place.token}; present: {present}")
    return found[0]


def tokens(module: Module) -> Iterable[pkcs11.Token]:
    """Yield the initialised tokens of a module."""
    for slot in module.binding.get_slots(token_present=True):
        with suppress(*_ABSENT):
            token = slot.get_token()
            if token.flags & TokenFlag.TOKEN_INITIALIZED:
                yield token


def _is_meant(token: pkcs11.Token, place: Place) -> bool:
    serial = token.serial.decode(errors="replace").strip("\0 ")
    return place.token_label in {None, token.label} and place.token_serial in {None, serial}


def log_in(module: Module, token: pkcs11.Token, session: pkcs11.Session, pin: PinGuard) -> None:
    """Log in as the user where the token wants it and this process is not logged in yet.

    Raises:
        BackendUnavailable: The token refuses the PIN, or its PIN is locked.
        ConfigurationError: There is no PIN.
    """
    handle = session.handle  # type: ignore[attr-defined]
    if not token.flags & TokenFlag.LOGIN_REQUIRED or module.cryptoki.is_logged_in(handle):
        return
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise BackendUnavailable(
            f"the PIN of token {token.label!r} is locked; it is not tried; the token's security "
            "officer must unlock it"
        )
    if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise BackendUnavailable(
            f"token {token.label!r} locks at the next wrong PIN, so that it is not tried; log in "
            "once with another tool and the right PIN, which sets its counter back"
        )
    pin.login(lambda value: module.cryptoki.login(handle, value))


def find_private_key(session: pkcs11.Session, place: Place) -> pkcs11.PrivateKey:
    """Find the one private key that is meant.

    Raises:
        BackendUnavailable: There is none.
        ConfigurationError: There are several.
    """
    wanted: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if place.key_label is not None:
        wanted[Attribute.LABEL] = place.key_label
    if place.key_id is not None:
        wanted[Attribute.ID] = place.key_id
    found = list(session.get_objects(wanted))
    if len(found) > 1:
        raise ConfigurationError(
            f"token {session.token.label!r} has {len(found)} private keys with {place.key}; "
            "expected one; set `key_id`, or remove the others"
        )
    if not found:
        raise BackendUnavailable(
            f"token {session.token.label!r} has no private key with {place.key}; expected the CA's "
            "key; check `key_label` and `key_id`, and that the key was made or brought there"
        )
    return found[0]  # type: ignore[return-value]


def check_closed(key: pkcs11.PrivateKey, place: Place) -> None:
    """Refuse a key that could leave the token, and one that cannot sign for a server.

    Raises:
        ConfigurationError: It is such a key.
    """
    faults = []
    if not place.readable:
        faults += [] if _flag(key, Attribute.SENSITIVE) is True else ["is not SENSITIVE"]
        faults += [] if _flag(key, Attribute.EXTRACTABLE) is False else ["is EXTRACTABLE"]
    if faults:
        raise ConfigurationError(
            f"the private key with {place.key} {' and '.join(faults)}, so that it could be copied "
            "out of the token; expected CKA_SENSITIVE true and CKA_EXTRACTABLE false; make the CA "
            "a new key on the token (for a token of tests: allow_extractable)"
        )
    if _flag(key, Attribute.SIGN) is not True:
        raise ConfigurationError(
            f"the private key with {place.key} may not sign; expected CKA_SIGN true; make the CA a "
            "key that may"
        )
    if _flag(key, Attribute.ALWAYS_AUTHENTICATE) is True:
        raise ConfigurationError(
            f"the private key with {place.key} asks for the PIN at each signature; expected "
            "CKA_ALWAYS_AUTHENTICATE false; make the CA a key that one login opens"
        )


def _flag(key: pkcs11.PrivateKey, attribute: Attribute) -> object:
    """Return an attribute, None where the token does not tell it."""
    try:
        return key[attribute]
    except AttributeTypeInvalid:
        return None


def _check_belongs(opened: OpenKey, place: Place, public_key: CaPublicKey) -> None:
    """Sign something that no certificate can be, and verify it with the CA's certificate."""
    message = b"meshsigner asks whether this key is the CA's: " + secrets.token_bytes(16)
    try:
        _verify(public_key, opened.sign(message), message)
    except (InvalidSignature, Malformed, *_OTHER_KIND) as error:
        raise _other_key(place, public_key) from error


def _other_key(place: Place, public_key: CaPublicKey) -> ConfigurationError:
    return ConfigurationError(
        f"the private key with {place.key} is not the key of the CA's certificate "
        f"({describe_key(public_key)}); expected the pair; set `key_label` or `key_id`, or put the "
        "certificate there that was issued for this key"
    )


def _verify(public_key: CaPublicKey, signature: bytes, message: bytes) -> None:
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        digest = hashes.SHA384() if isinstance(public_key.curve, ec.SECP384R1) else hashes.SHA256()
        public_key.verify(signature, message, ec.ECDSA(digest))
    else:
        public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def _close(session: pkcs11.Session) -> None:
    with suppress(PKCS11Error):
        session.close()
