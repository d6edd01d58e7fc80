"""Tests of the PIN's guard: a refused one is tried once, by all processes together."""

from pathlib import Path

import pytest

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.signing.pkcs11.cryptoki import OK
from meshsigner.signing.pkcs11.pin import PinFile, PinGuard, PinVariable

INCORRECT, LOCKED = 0xA0, 0xA4


class Token:
    """A token that knows one PIN."""

    def __init__(self, pin: bytes, refusal: int = INCORRECT) -> None:
        self.pin = pin
        self.tried: list[bytes] = []
        self._refusal = refusal

    def login(self, pin: bytes) -> int:
        """Try a PIN."""
        self.tried.append(pin)
        return OK if pin == self.pin else self._refusal


@pytest.fixture
def source(tmp_path: Path) -> PinFile:
    """Return a file with the PIN 1111."""
    return write(tmp_path / "pin", "1111\n")


def write(path: Path, text: str) -> PinFile:
    """Write a PIN file anew."""
    path.write_text(text)
    path.chmod(0o600)
    return PinFile(path)


def test_right_pin_logs_in_each_time(source: PinFile, tmp_path: Path) -> None:
    """The file's end of line is no part of the PIN, and a good PIN may be used again."""
    token, guard = Token(b"1111"), PinGuard(source, tmp_path / "state")
    guard.login(token.login)
    guard.login(token.login)
    assert token.tried == [b"1111"] * 2


@pytest.mark.parametrize(("code", "word"), [(INCORRECT, "incorrect"), (LOCKED, "locked")])
@pytest.mark.parametrize("shared", [True, False])
def test_refused_pin_is_tried_once(
    source: PinFile, tmp_path: Path, code: int, word: str, *, shared: bool
) -> None:
    """The second attempt does not reach the token, and says the same without the PIN."""
    token, guard = Token(b"2222", code), PinGuard(source, tmp_path / "state" if shared else None)
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match=f"as {word}") as caught:
            guard.login(token.login)
        assert "1111" not in str(caught.value)
        assert str(source.path) in str(caught.value)
    assert token.tried == [b"1111"]


def test_refusal_holds_for_other_workers(source: PinFile, tmp_path: Path) -> None:
    """Another guard over the same directory does not try what was refused; the PIN is not in it."""
    token, state = Token(b"2222"), tmp_path / "state"
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            PinGuard(source, state).login(token.login)
    assert token.tried == [b"1111"]
    (mark,) = state.iterdir()
    assert "1111" not in mark.read_text()
    assert mark.stat().st_mode & 0o777 == 0o600


def test_new_pin_is_tried_and_clears_the_refusal(source: PinFile, tmp_path: Path) -> None:
    """A file that was written again is another PIN, for this worker and for others."""
    token, state = Token(b"2222"), tmp_path / "state"
    guard = PinGuard(source, state)
    with pytest.raises(BackendUnavailable):
        guard.login(token.login)
    write(source.path, "2222")
    guard.login(token.login)
    PinGuard(source, state).login(token.login)
    assert token.tried == [b"1111", b"2222", b"2222"]
    assert list(state.iterdir()) == []


def test_refusal_of_an_earlier_run_does_not_hold(source: PinFile, tmp_path: Path) -> None:
    """After a restart the PIN is tried once more: the token's own may have been set right."""
    state = tmp_path / "state"
    with pytest.raises(BackendUnavailable):
        PinGuard(source, state).login(Token(b"2222").login)
    mark = state / "pin-refused.json"
    mark.write_text(mark.read_text().replace('"run": "', '"run": "9'))
    token = Token(b"1111")
    PinGuard(source, state).login(token.login)
    assert token.tried == [b"1111"]


def test_pin_of_a_variable_is_tried_once_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable cannot change while the server runs."""
    monkeypatch.setenv("HSM_PIN", "1111")
    token, guard = Token(b"2222"), PinGuard(PinVariable("HSM_PIN"), tmp_path)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="environment variable HSM_PIN"):
            guard.login(token.login)
    assert token.tried == [b"1111"]
    monkeypatch.delenv("HSM_PIN")
    with pytest.raises(ConfigurationError, match="HSM_PIN is not set"):
        guard.login(token.login)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_pin_file_is_its_owner_s_alone(source: PinFile, mode: int) -> None:
    """A PIN that others can read is refused, as a key would be."""
    source.path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"has mode {mode:04o}"):
        source.read()


def test_pin_is_not_shown(source: PinFile) -> None:
    """The text form of a PIN and of its source has no PIN in it."""
    assert "1111" not in repr(source.read()) + repr(source) + str(source)


def test_without_a_place_for_notes_each_process_tries_once(source: PinFile, tmp_path: Path) -> None:
    """A read-only file system does not keep an HSM from being used: one attempt a process."""
    (tmp_path / "state").write_text("a file")
    token = Token(b"2222")
    for guard in (PinGuard(source, tmp_path / "state"), PinGuard(source, tmp_path / "state")):
        for _ in range(2):
            with pytest.raises(BackendUnavailable):
                guard.login(token.login)
    assert token.tried == [b"1111"] * 2
