"""A second implementation's word on the CSR vectors: which are signed by their own key."""

import json
import subprocess

import pytest

from tests.vectors.case import Possession
from tests.vectors.make_csrs import FOLDER

INDEX = json.loads((FOLDER / "index.json").read_bytes())
JUDGED = [entry for entry in INDEX if entry["file"] and entry["possession"] != Possession.UNJUDGED]


def _openssl_verifies(file: str) -> bool:
    """Ask openssl whether a request proves possession of its key."""
    done = subprocess.run(
        ["openssl", "req", "-in", FOLDER / file, "-verify", "-noout"],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode == 0 and "verify OK" in done.stderr


@pytest.mark.parametrize("entry", JUDGED, ids=lambda entry: str(entry["name"]))
def test_openssl_agrees_on_possession(entry: dict[str, str]) -> None:
    """Openssl finds a true signature just where the index says so."""
    assert _openssl_verifies(entry["file"]) == (entry["possession"] == Possession.PROVEN)


def test_most_vectors_are_judged() -> None:
    """The second opinion covers the well-formed attacks, not a handful."""
    assert len(JUDGED) > 100
    assert {entry["possession"] for entry in JUDGED} == {Possession.PROVEN, Possession.NOT_PROVEN}
