"""What an HSM does in trouble, and what callers and operators are told then.

SoftHSM2 stands behind a module that breaks on command, so that each failure is
the standard's own and the calls can be counted.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.model import Chain
from meshsigner.signing.pkcs11.settings import Pkcs11Settings
from tests.conformance.softhsm.bench import Bench, make_issuer_ca, settings_of, started
from tests.conformance.softhsm.token import LABEL, MODULE, PIN, SoftHsm
from tests.fakes.authority import NOW

CA = make_issuer_ca()
WRONG_PIN = "999999"
SESSION_HANDLE_INVALID, DEVICE_ERROR, GENERAL_ERROR = "b3", "30", "5"
PIN_LOCKED = "a4"
FLAG_FINAL_TRY, FLAG_LOCKED = "20000", "40000"
SEVERAL = 4


@pytest.fixture
def settings(hsm: SoftHsm) -> Pkcs11Settings:
    """Return a backend over a good key."""
    hsm.add_key(CA.key)
    return settings_of(hsm, CA)


async def refusal_of(hsm: SoftHsm, settings: Pkcs11Settings) -> str:
    """Start a backend that can never work, and return what it says."""
    with pytest.raises(ConfigurationError) as caught:
        async with started(hsm, settings):
            pass
    return str(caught.value)


async def unavailable(bench: Bench) -> str:
    """Ask for a signature that cannot come, and return why; the answer must come at once."""
    began = time.monotonic()
    try:
        (found,) = await bench.sign()
    except BackendUnavailable as error:
        found = error
    assert isinstance(found, BackendUnavailable)
    assert not found.maybe_issued
    assert time.monotonic() - began < 5.0
    return str(found)


async def test_wrong_pin_is_tried_once_until_its_file_changes(
    hsm: SoftHsm, settings: Pkcs11Settings
) -> None:
    """A refused PIN is never tried again; a new one in the file is, and the backend works."""
    hsm.write_pin(WRONG_PIN)
    async with started(hsm, settings) as bench:
        detail = await bench.until(ready=False)
        await asyncio.sleep(2.5)  # more than two attempts at a store that is away
        assert hsm.count("C_Login") == 1
        detail = bench.signer.health(NOW).detail
        assert f"refused the PIN from {hsm.pin_file} as incorrect" in detail
        assert WRONG_PIN not in detail
        hsm.write_pin(PIN)
        await bench.until(ready=True)
        assert hsm.count("C_Login") == 2


async def test_wrong_pin_is_tried_once_by_all_workers_of_a_server(
    hsm: SoftHsm, settings: Pkcs11Settings
) -> None:
    """What one worker was refused no other one tries: they note it in the server's directory."""
    hsm.write_pin(WRONG_PIN)
    for _ in range(3):
        async with started(hsm, settings) as bench:
            await bench.until(ready=False)
    assert hsm.count("C_Login") == 1
    assert WRONG_PIN not in (hsm.directory / "state" / "pin-refused.json").read_text()


async def test_locked_pin_is_never_tried_again(hsm: SoftHsm, settings: Pkcs11Settings) -> None:
    """When the token says that its PIN is locked, there is no second attempt."""
    hsm.order(login_rv=PIN_LOCKED)
    async with started(hsm, settings) as bench:
        await asyncio.sleep(2.5)
        assert "as locked" in await bench.until(ready=False)
        assert hsm.count("C_Login") == 1


@pytest.mark.parametrize(
    ("flag", "words"),
    [(FLAG_LOCKED, "is locked; it is not tried"), (FLAG_FINAL_TRY, "locks at the next wrong PIN")],
)
async def test_pin_is_not_tried_where_the_token_warns(
    hsm: SoftHsm, settings: Pkcs11Settings, flag: str, words: str
) -> None:
    """A locked PIN, and one with a last try left, are not tried; the words say what to do."""
    hsm.order(token_flags=flag)
    async with started(hsm, settings) as bench:
        assert words in await bench.until(ready=False)
        assert hsm.count("C_Login") == 0
        hsm.order()
        await bench.until(ready=True)


@pytest.mark.parametrize("sessions", [1, SEVERAL])
async def test_lost_session_is_opened_again_at_once(hsm: SoftHsm, sessions: int) -> None:
    """When the HSM closes all sessions, the orders at hand are signed all the same."""
    hsm.add_key(CA.key)
    async with started(hsm, settings_of(hsm, CA, sessions=sessions)) as bench:
        assert isinstance((await bench.sign())[0], Chain)
        for _ in range(3):
            hsm.order(drop=time.monotonic_ns())
            found = await bench.sign(10)
            assert all(isinstance(chain, Chain) for chain in found), found


async def test_sessions_closed_behind_our_back_are_opened_again(plain_hsm: SoftHsm) -> None:
    """Another user of the module in this process closes all sessions: the next order is signed."""
    plain_hsm.add_key(CA.key)
    async with started(plain_hsm, settings_of(plain_hsm, CA)) as bench:
        assert isinstance((await bench.sign())[0], Chain)
        module = ctypes.CDLL(str(MODULE))
        slots, count = (ctypes.c_ulong * 8)(), ctypes.c_ulong(8)
        assert module.C_GetSlotList(1, slots, ctypes.byref(count)) == 0
        for slot in slots[: count.value]:
            module.C_CloseAllSessions(ctypes.c_ulong(slot))
        assert isinstance((await bench.sign())[0], Chain)


@pytest.mark.parametrize("code", [SESSION_HANDLE_INVALID, DEVICE_ERROR, GENERAL_ERROR])
@pytest.mark.parametrize("sessions", [1, SEVERAL])
async def test_device_that_keeps_failing_is_told_and_comes_back(
    hsm: SoftHsm, code: str, sessions: int
) -> None:
    """Callers are told at once, no call hammers the device, and it serves after the fault's end."""
    hsm.add_key(CA.key)
    async with started(hsm, settings_of(hsm, CA, sessions=sessions)) as bench:
        assert isinstance((await bench.sign())[0], Chain)
        hsm.order(sign_rv=code)
        assert "the HSM answered" in await unavailable(bench)
        assert "the HSM answered" in await bench.until(ready=False)
        calls = hsm.count("C_Sign")
        for _ in range(20):
            await unavailable(bench)
        assert hsm.count("C_Sign") - calls < 10  # the background's own attempts
        hsm.order()
        await bench.until(ready=True)
        assert all(isinstance(chain, Chain) for chain in await bench.sign(10))


async def test_token_that_was_removed_is_found_when_it_is_back(
    hsm: SoftHsm, settings: Pkcs11Settings
) -> None:
    """A token taken out makes the backend say so, also when nobody asks; put in again, it signs."""
    async with started(hsm, settings) as bench:
        assert isinstance((await bench.sign())[0], Chain)
        hsm.take_away()
        await bench.until(ready=False)  # the look at an idle session
        await unavailable(bench)
        hsm.bring_back()
        await bench.until(ready=True)
        assert isinstance((await bench.sign())[0], Chain)


async def test_token_that_is_away_at_the_start_is_no_error(
    hsm: SoftHsm, settings: Pkcs11Settings
) -> None:
    """The server starts, says what is missing and what is there, and signs once it is back."""
    hsm.take_away()
    async with started(hsm, settings) as bench:
        assert "no token has label 'mesh'; present: none" in await bench.until(ready=False)
        hsm.bring_back()
        await bench.until(ready=True)
        assert isinstance((await bench.sign())[0], Chain)


async def test_module_that_cannot_initialise_is_tried_again(
    hsm: SoftHsm, settings: Pkcs11Settings
) -> None:
    """An HSM whose daemon is down at the start is reached once it is up."""
    hsm.order(initialize_rv=DEVICE_ERROR)
    async with started(hsm, settings) as bench:
        detail = await bench.until(ready=False)
        assert "DeviceError" in detail or "C_Initialize returned 0x30" in detail
        hsm.order()
        await bench.until(ready=True)


async def test_missing_key_is_told_and_found_later(hsm: SoftHsm) -> None:
    """A token without the key is no error for ever: the words say what is missing."""
    hsm.add_key(CA.key, label="another")
    async with started(hsm, settings_of(hsm, CA)) as bench:
        assert "no private key with label 'mesh-ca'" in await bench.until(ready=False)
        hsm.add_key(CA.key, number=2)
        await bench.until(ready=True)


async def test_two_keys_with_one_label_are_refused(hsm: SoftHsm, settings: Pkcs11Settings) -> None:
    """Which of two keys is meant is not guessed."""
    hsm.add_key(CA.key, number=2)
    text = await refusal_of(hsm, settings)
    assert "has 2 private keys with label 'mesh-ca'; expected one; set `key_id`" in text


async def test_two_tokens_with_one_label_are_refused(
    hsm: SoftHsm, settings: Pkcs11Settings
) -> None:
    """Which of two tokens is meant is not guessed, and the words name their serial numbers."""
    hsm.add_token(LABEL)
    text = await refusal_of(hsm, settings)
    assert "2 tokens have label 'mesh'" in text
    assert all(serial in text for serial in hsm.serials())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--extractable",), "is EXTRACTABLE, so that it could be copied"),
        (("--not-sensitive",), "is not SENSITIVE, so that it could be copied"),
        (("--extractable", "--not-sensitive"), "is not SENSITIVE and is EXTRACTABLE"),
    ],
)
async def test_key_that_could_be_copied_out_is_refused(
    hsm: SoftHsm, options: tuple[str, ...], words: str
) -> None:
    """A key that is not closed to copying is refused, but for the setting for tokens of tests."""
    hsm.add_key(CA.key, *options)
    assert words in await refusal_of(hsm, settings_of(hsm, CA))
    async with started(hsm, settings_of(hsm, CA, allow_extractable=True)) as bench:
        assert isinstance((await bench.sign())[0], Chain)


async def test_key_that_may_not_sign_is_refused(hsm: SoftHsm) -> None:
    """CKA_SIGN false is told as that."""
    hsm.add_key(CA.key, "--no-sign")
    assert "may not sign; expected CKA_SIGN true" in await refusal_of(hsm, settings_of(hsm, CA))


async def test_key_that_asks_at_each_signature_is_refused(hsm: SoftHsm) -> None:
    """Nobody could type the PIN for each certificate."""
    hsm.add_key(CA.key, "--asks-always")
    text = await refusal_of(hsm, settings_of(hsm, CA))
    assert "asks for the PIN at each signature" in text


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
async def test_key_of_another_ca_is_refused(hsm: SoftHsm, kind: str) -> None:
    """A key that is not the certificate's is refused before it signs, whatever its kind."""
    hsm.add_key(make_issuer_ca(kind, 5).key)
    text = await refusal_of(hsm, settings_of(hsm, CA))
    assert "is not the key of the CA's certificate (secp256r1)" in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path / "nowhere.so", "there is no such file"),
        (lambda path: _text_file(path / "text.so"), "cannot be loaded"),
        (lambda _: Path("/usr/lib/x86_64-linux-gnu/libz.so.1").resolve(), "is no PKCS #11 module"),
    ],
)
async def test_module_that_is_none_is_refused(
    hsm: SoftHsm, tmp_path: Path, make: Callable[[Path], Path], words: str
) -> None:
    """A path without a module, a file that is no library and a library of another kind are told."""
    hsm.add_key(CA.key)
    assert words in await refusal_of(hsm, settings_of(hsm, CA, module=str(make(tmp_path))))


def _text_file(path: Path) -> Path:
    path.write_text("no library\n")
    return path


async def test_pin_file_open_to_others_is_refused(hsm: SoftHsm, settings: Pkcs11Settings) -> None:
    """A PIN that others can read is as bad as a key that others can read."""
    hsm.pin_file.chmod(0o644)
    text = await refusal_of(hsm, settings)
    assert f"{hsm.pin_file}: has mode 0644, open to other users" in text
    assert PIN not in text


async def test_pin_comes_from_a_variable(
    hsm: SoftHsm, settings: Pkcs11Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment variable may hold the PIN; unset, it is named."""
    del settings
    from_variable = settings_of(hsm, CA, pin_file=None, pin_variable="HSM_PIN")
    assert "HSM_PIN is not set" in await refusal_of(hsm, from_variable)
    monkeypatch.setenv("HSM_PIN", PIN)
    async with started(hsm, from_variable) as bench:
        assert isinstance((await bench.sign())[0], Chain)


async def test_slow_hsm_bounds_what_waits(hsm: SoftHsm, settings: Pkcs11Settings) -> None:
    """A caller whose time is over leaves, and the HSM signs nothing more for it."""
    async with started(hsm, settings) as bench:
        await bench.sign()
        before = hsm.count("C_Sign")
        hsm.order(sign_ms=100)
        with pytest.raises(BackendUnavailable, match="within the request's time"):
            await bench.sign(50, left_s=0.35)
        hsm.order()
        assert isinstance((await bench.sign())[0], Chain)
        assert hsm.count("C_Sign") - before < 10


async def test_hsm_that_never_answers_is_told(hsm: SoftHsm, settings: Pkcs11Settings) -> None:
    """While a call hangs, callers are told at once and readiness says it; then all is well."""
    async with started(hsm, settings) as bench:
        await bench.sign()
        hsm.order(sign_ms=3_000)
        with pytest.raises(BackendUnavailable):
            await bench.sign(left_s=1.2)
        assert "has not answered for" in await bench.until(ready=False)
        assert "has not answered for" in await unavailable(bench)
        hsm.order()
        await bench.until(ready=True)
        assert isinstance((await bench.sign())[0], Chain)


def test_pin_is_never_an_argument(hsm: SoftHsm, settings: Pkcs11Settings) -> None:
    """The settings name a file or a variable; neither they nor this process's argv hold the PIN."""
    del hsm
    assert PIN not in repr(settings)
    assert PIN not in Path(f"/proc/{os.getpid()}/cmdline").read_text()
