"""What `check-config --connect` finds out about an HSM: module, token, mechanisms, key.

Decides what can be said without a login, and says the rest only when it may
try the PIN. Every step that fails says what to do, and the later ones are left
out, for they would fail for the same reason.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator, Sequence

import pkcs11
from pkcs11 import Attribute, ObjectClass, TokenFlag

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.signing.keyed import CaPublicKey, ca_public_key
from meshsigner.signing.kind import Finding, Surroundings
from meshsigner.signing.pkcs11.assembly import place_of
from meshsigner.signing.pkcs11.key import describe_fault
from meshsigner.signing.pkcs11.module import DEVICE_FAULTS, Module
from meshsigner.signing.pkcs11.opening import (
    Place,
    check_closed,
    find_private_key,
    find_token,
    log_in,
    open_key,
)
from meshsigner.signing.pkcs11.pin import PinGuard
from meshsigner.signing.pkcs11.scheme import choose_scheme
from meshsigner.signing.pkcs11.settings import Pkcs11Settings, Pkcs11Token
from meshsigner.trust import load_certificates
from meshsigner.trust.pem import describe

PATIENCE_S = 30.0


async def examine(settings: Pkcs11Settings, surroundings: Surroundings) -> Sequence[Finding]:
    """Look at everything, in the order in which it is needed.

    Args:
        settings: Of the backend.
        surroundings: With `try_pin`.
    """
    return await _examine(settings, lambda module: _steps(module, settings, surroundings))


async def examine_token(settings: Pkcs11Token, surroundings: Surroundings) -> Sequence[Finding]:
    """Look at a token on which a key is, or shall be made; none is made.

    Args:
        settings: Where.
        surroundings: With `try_pin`.
    """
    return await _examine(settings, lambda module: _steps_to_make(module, settings, surroundings))


async def _examine(
    settings: Pkcs11Token, steps: Callable[[Module], Iterator[Finding]]
) -> Sequence[Finding]:
    looker = object()
    module = Module.join(settings.module, looker)
    findings: list[Finding] = []

    def look() -> None:
        for finding in _in_words(settings, steps(module)):
            findings.append(finding)  # noqa: PERF402 - what was found before a fault stays

    try:
        async with asyncio.timeout(PATIENCE_S):
            await module.thread.run(look)
            await module.thread.run(lambda: module.leave(looker))
    except TimeoutError:
        text = f"the HSM did not answer within {PATIENCE_S:.0f} s; check its network and its daemon"
        findings.append(Finding(good=False, text=text))
    return findings


def _in_words(settings: Pkcs11Token, steps: Iterator[Finding]) -> Iterator[Finding]:
    """Put what ends the steps into words."""
    try:
        yield from steps
    except ConfigurationError as error:
        yield from (Finding(good=False, text=problem) for problem in error.problems)
    except BackendUnavailable as error:
        yield Finding(good=False, text=str(error))
    except DEVICE_FAULTS as error:
        yield Finding(
            good=False,
            text=f"{describe_fault(error)}; expected the token with {place_of(settings).token} to "
            "answer; check that it is there and the HSM's own configuration",
        )


def _steps(
    module: Module, settings: Pkcs11Settings, surroundings: Surroundings
) -> Iterator[Finding]:
    public_key = yield from _certificates(settings, surroundings)
    yield _load(module, settings)
    place = place_of(settings)
    with module.calling():
        token = find_token(module, place)
        yield from _token(token)
        scheme = choose_scheme(public_key, token.slot.get_mechanisms())
        yield _good(f"mechanism: CKM_{scheme.mechanism.name} is there for the CA's key")
        if surroundings.try_pin:
            yield _key(module, place, PinGuard(settings.pin_source, None), public_key)
        else:
            yield from _without_login(token, place)


def _steps_to_make(
    module: Module, settings: Pkcs11Token, surroundings: Surroundings
) -> Iterator[Finding]:
    yield _load(module, settings)
    place = place_of(settings)
    with module.calling():
        token = find_token(module, place)
        yield from _token(token)
        if surroundings.try_pin:
            yield _key_or_none(module, token, place, PinGuard(settings.pin_source, None))
        else:
            yield from _without_login(token, place)


def _load(module: Module, settings: Pkcs11Token) -> Finding:
    module.load(locking=settings.sessions > 1)
    made = f"{module.binding.manufacturer_id}, {module.binding.library_description}"
    return _good(f"module: {made}, {settings.module}")


def _certificates(
    settings: Pkcs11Settings, surroundings: Surroundings
) -> Generator[Finding, None, CaPublicKey]:
    ca = load_certificates(settings.certificates, generation=1, now=surroundings.clock())
    end = f"{ca.issuer.not_after:%Y-%m-%d %H:%M}Z"
    yield _good(f"{settings.certificates}: {describe(ca.issuer.certificate)}, until {end}")
    return ca_public_key(ca.issuer)


def _token(token: pkcs11.Token) -> Iterator[Finding]:
    serial = token.serial.decode(errors="replace").strip("\0 ")
    yield _good(f"token: label {token.label!r}, serial {serial!r}, {token.manufacturer_id}")
    if not token.flags & TokenFlag.USER_PIN_INITIALIZED:
        yield Finding(good=False, text="the token has no user PIN; expected one; let it be set")
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        text = "the user PIN is locked; the token's security officer must unlock it"
        yield Finding(good=False, text=text)
    elif token.flags & TokenFlag.USER_PIN_COUNT_LOW:
        yield _good("somebody entered a wrong user PIN since the last login")


def _without_login(token: pkcs11.Token, place: Place) -> Iterator[Finding]:
    """Say what strangers may see of the key: often its public half, seldom itself."""
    wanted = {Attribute.LABEL: place.key_label, Attribute.ID: place.key_id}
    template = {name: value for name, value in wanted.items() if value is not None}
    with token.open() as session:
        public = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, **template}
        count = len(list(session.get_objects(public)))
    yield _good(
        f"key: {count} public keys with {place.key} can be seen; the private key shows after a "
        "login only (--try-pin)"
    )


def _key(module: Module, place: Place, pin: PinGuard, public_key: CaPublicKey) -> Finding:
    opened = open_key(module, place, pin, public_key)
    opened.close()
    return _good(
        f"login and key: the private key with {place.key} is closed to copying and signs for the "
        "CA's certificate"
    )


def _key_or_none(module: Module, token: pkcs11.Token, place: Place, pin: PinGuard) -> Finding:
    with token.open() as session:
        log_in(module, token, session, pin)
        try:
            key = find_private_key(session, place)
        except BackendUnavailable:
            return _good(f"login: good; a key with {place.key} is made at the first start")
        check_closed(key, place)
    return _good(f"login and key: the private key with {place.key} is closed to copying")


def _good(text: str) -> Finding:
    return Finding(good=True, text=text)
