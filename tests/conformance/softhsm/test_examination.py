"""What `check-config --connect` says of an HSM: what is there, what is missing, what to do."""

from pathlib import Path

import pytest

from meshsigner.signing.kind import Finding
from meshsigner.signing.pkcs11.kind import PKCS11
from meshsigner.signing.pkcs11.settings import Pkcs11Settings
from tests.conformance.softhsm.bench import make_issuer_ca, settings_of, surroundings_of
from tests.conformance.softhsm.token import PIN, SoftHsm

CA = make_issuer_ca()
FLAG_LOCKED = "40000"


async def examine(
    hsm: SoftHsm, settings: Pkcs11Settings, *, try_pin: bool = False
) -> tuple[list[str], list[str]]:
    """Return the good findings, and the others."""
    found = await PKCS11.examine(settings, surroundings_of(hsm, try_pin=try_pin))
    assert not any(PIN in finding.text for finding in found)
    return _texts(found, good=True), _texts(found, good=False)


def _texts(found: object, *, good: bool) -> list[str]:
    assert isinstance(found, list)
    return [f.text for f in found if isinstance(f, Finding) and f.good is good]


async def test_everything_but_the_login_is_looked_at(hsm: SoftHsm) -> None:
    """Without leave to try the PIN: certificates, module, token, mechanism, and no login."""
    hsm.add_key(CA.key)
    good, bad = await examine(hsm, settings_of(hsm, CA))
    assert bad == []
    certificates, module, token, mechanism, key = good
    assert "CN=issuer 0" in certificates
    assert "SoftHSM" in module
    assert "label 'mesh'" in token
    assert "CKM_ECDSA is there" in mechanism
    assert "1 public keys with label 'mesh-ca' can be seen" in key
    assert hsm.count("C_Login") == 0


async def test_with_leave_the_key_is_proven(hsm: SoftHsm) -> None:
    """With --try-pin it logs in once, and the key signs for the CA's certificate."""
    hsm.add_key(CA.key)
    good, bad = await examine(hsm, settings_of(hsm, CA), try_pin=True)
    assert bad == []
    assert "signs for the CA's certificate" in good[-1]
    assert hsm.count("C_Login") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--extractable",), "is EXTRACTABLE"), (("--no-sign",), "may not sign")],
)
async def test_what_is_wrong_with_the_key_is_said(
    hsm: SoftHsm, options: tuple[str, ...], words: str
) -> None:
    """The same words as at the start of a server."""
    hsm.add_key(CA.key, *options)
    _, bad = await examine(hsm, settings_of(hsm, CA), try_pin=True)
    (problem,) = bad
    assert words in problem


async def test_wrong_pin_is_tried_once(hsm: SoftHsm) -> None:
    """One attempt, which the person asked for; the words name the file."""
    hsm.add_key(CA.key)
    hsm.write_pin("999999")
    _, bad = await examine(hsm, settings_of(hsm, CA), try_pin=True)
    assert "as incorrect" in bad[0]
    assert hsm.count("C_Login") == 1


async def test_locked_pin_is_seen_without_a_login(hsm: SoftHsm) -> None:
    """The token tells by itself that its PIN is locked."""
    hsm.add_key(CA.key)
    hsm.order(token_flags=FLAG_LOCKED)
    _, bad = await examine(hsm, settings_of(hsm, CA))
    assert bad == ["the user PIN is locked; the token's security officer must unlock it"]


async def test_missing_token_names_those_that_are_there(hsm: SoftHsm) -> None:
    """A mistyped label shows beside the right one."""
    hsm.add_key(CA.key)
    _, bad = await examine(hsm, settings_of(hsm, CA, token_label="mash"))
    assert "no token has label 'mash'; present: 'mesh'" in bad[0]


async def test_missing_key_is_said_after_the_login(hsm: SoftHsm) -> None:
    """Only who is logged in can tell that there is no such private key."""
    _, bad = await examine(hsm, settings_of(hsm, CA), try_pin=True)
    assert "no private key with label 'mesh-ca'" in bad[0]


async def test_bad_certificates_and_module_are_said(hsm: SoftHsm, tmp_path: Path) -> None:
    """What is wrong with the files is said like at the start of a server."""
    settings = settings_of(hsm, CA)
    (settings.certificates / "cert-chain.pem").unlink()
    _, bad = await examine(hsm, settings)
    assert any("cert-chain.pem: is missing" in problem for problem in bad)
    library = tmp_path / "text.so"
    library.write_text("no library\n")
    _, bad = await examine(hsm, settings_of(hsm, CA, module=str(library)))
    assert "cannot be loaded" in bad[0]
