"""Tests of the section `pkcs11`: what must be said, and what shows without the HSM."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from meshsigner.errors import ConfigurationError
from meshsigner.observe.metrics import Metrics
from meshsigner.signing.kind import Surroundings
from meshsigner.signing.pkcs11 import kind
from meshsigner.signing.pkcs11.settings import Pkcs11Settings
from meshsigner.spiffe import TrustDomain
from tests.fakes.authority import NOW

GOOD: dict[str, Any] = {
    "type": "pkcs11",
    "certificates": "/etc/ca",
    "module": "/usr/lib/hsm.so",
    "token_label": "mesh",
    "key_id": "01a7",
    "pin_file": "/etc/pin",
}


def settings(**changes: object) -> Pkcs11Settings:
    """Return settings that differ from good ones; None leaves a key out."""
    values = {**GOOD, **changes}
    return Pkcs11Settings.model_validate({k: v for k, v in values.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token_label": None}, "token_label or token_serial set"),
        ({"key_id": None}, "key_label or key_id set"),
        ({"pin_file": None}, "one of pin_file and pin_variable set"),
        ({"pin_variable": "PIN"}, "one of pin_file and pin_variable set"),
        ({"key_id": "xyz"}, "hex digits"),
        ({"pin_variable": "1234", "pin_file": None}, "never the PIN"),
        ({"sessions": 0}, "greater than or equal to 1"),
        ({"sessions": 65}, "less than or equal to 64"),
        ({"pin": "1234"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_told(changes: dict[str, object], words: str) -> None:
    """What is missing or contradicts itself is named; a PIN has no place in a configuration."""
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


def test_all_that_shows_without_the_hsm_is_told_at_once(tmp_path: Path) -> None:
    """A missing module and a PIN file that is not there come together."""
    nowhere = settings(module=str(tmp_path / "hsm.so"), pin_file=str(tmp_path / "pin"))
    with pytest.raises(ConfigurationError) as caught:
        kind.PKCS11.open("hsm", nowhere, surroundings(tmp_path))
    module, pin = caught.value.problems
    assert "expected the HSM's PKCS #11 module" in module
    assert "pin: is missing" in pin


async def test_missing_extra_is_told_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without python-pkcs11 the kind can be listed, and says what to install once it is used."""
    monkeypatch.setattr(kind, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'meshsigner\[pkcs11\]'"):
        kind.PKCS11.open("hsm", settings(), surroundings(tmp_path))
    with pytest.raises(ConfigurationError, match="which is not installed"):
        await kind.PKCS11.examine(settings(), surroundings(tmp_path))


def surroundings(directory: Path) -> Surroundings:
    """Return a server around it."""
    return Surroundings(
        clock=lambda: NOW,
        trust_domain=TrustDomain.parse("cluster.local"),
        metrics=Metrics(),
        directory=directory,
    )


def test_limits_follow_the_settings() -> None:
    """One call signs while the next is ready, each of a batch and for the time that was set."""
    limits = settings(batch=7, call="2s", rate_per_s=9).limits
    assert (limits.batch, limits.call_s, limits.rate_per_s, limits.in_flight) == (7, 2.0, 9, 2)
