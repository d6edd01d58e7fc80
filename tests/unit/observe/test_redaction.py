"""The second net: what it blanks, and what it lets through."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshsigner.observe.redaction import REDACTED, SECRET_FIELDS, redact, without_material
from tests.fakes.pipeline import make_csr

KEY = ec.generate_private_key(ec.SECP256R1())
KEY_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
CSR_PEM = make_csr(KEY, "spiffe://cluster.local/ns/a/sa/b").decode()
TOKEN = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl-_"


@pytest.mark.parametrize("field", sorted(SECRET_FIELDS))
def test_secret_fields_are_blanked(field: str) -> None:
    """A field that holds secrets by its name is blanked, whatever is in it."""
    assert redact(None, "", {"event": "x", field: b"anything"}) == {"event": "x", field: REDACTED}


@pytest.mark.parametrize("material", [TOKEN, KEY_PEM, CSR_PEM, "Bearer abcdefgh12345678"])
@pytest.mark.parametrize("field", ["event", "cause", "exception"])
def test_material_inside_texts_is_blanked(material: str, field: str) -> None:
    """A token, key or CSR that an exception quotes is blanked, the rest of the text stays."""
    line = redact(None, "", {field: f"before {material} after"})
    assert line[field].startswith("before ")
    assert line[field].endswith(" after")
    for part in material.removeprefix("Bearer ").split():
        assert part not in line[field] or part in {"-----BEGIN", "-----END"}


@pytest.mark.parametrize("cut", [TOKEN[:60], KEY_PEM[:120], CSR_PEM[:200]])
def test_material_that_was_cut_off_is_blanked(cut: str) -> None:
    """Half of a secret is a secret."""
    told = without_material(f"bad input: {cut}")
    assert told == f"bad input: {REDACTED}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the token is expired",
        "spiffe://cluster.local/ns/eyJ/sa/b",
        "-----BEGIN CERTIFICATE-----",
        "no Bearer value",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    """What is no secret is told as it is."""
    assert without_material(text) == text
