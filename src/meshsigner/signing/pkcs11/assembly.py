"""Puts a backend of the kind `pkcs11` together from its settings."""

from meshsigner.signing.certificate_directory import CertificateDirectory
from meshsigner.signing.keyed import KeyedSigner
from meshsigner.signing.kind import Surroundings
from meshsigner.signing.pkcs11.opening import Place
from meshsigner.signing.pkcs11.pin import PinGuard
from meshsigner.signing.pkcs11.settings import Pkcs11Settings, Pkcs11Token
from meshsigner.signing.pkcs11.store import Pace, Pkcs11Store


def open_backend(
    name: str, settings: Pkcs11Settings, surroundings: Surroundings, pace: Pace | None = None
) -> KeyedSigner:
    """Make the backend; nothing is loaded or asked before it starts.

    Args:
        name: Its name.
        settings: Of its kind.
        surroundings: The server around it.
        pace: How often what is looked at; from the settings by default.
    """
    pin = PinGuard(settings.pin_source, surroundings.directory)
    return KeyedSigner(
        name=name,
        source=CertificateDirectory(settings.certificates, clock=surroundings.clock),
        keys=open_store(name, settings, pin, pace),
        limits=settings.limits,
        clock=surroundings.clock,
    )


def open_store(
    name: str, settings: Pkcs11Token, pin: PinGuard, pace: Pace | None = None
) -> Pkcs11Store:
    """Make what holds the key; nothing is loaded or asked before it starts.

    Args:
        name: Of the backend, for logs.
        settings: Where the key is.
        pin: Logs in.
        pace: How often what is looked at; from the settings by default.
    """
    return Pkcs11Store(
        name=name,
        module=settings.module,
        place=place_of(settings),
        pin=pin,
        sessions=settings.sessions,
        pace=pace or Pace(stuck_s=settings.call.total_seconds()),
    )


def place_of(settings: Pkcs11Token) -> Place:
    """Return where the settings say that the key is."""
    return Place(
        token_label=settings.token_label,
        token_serial=settings.token_serial,
        key_label=settings.key_label,
        key_id=None if settings.key_id is None else bytes.fromhex(settings.key_id),
        readable=settings.allow_extractable,
    )
