"""A backend of type `pkcs11` for a server under test: SoftHSM2 holds the CA's key.

The token is made for the run, in its directory; the CA's key is brought there from the
mesh's files, so that servers with other backends sign under the same CA. Needs Debian's
softhsm2.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

MODULE: Final = Path("/usr/lib/softhsm/libsofthsm2.so")
_LABEL: Final = "mesh"
_KEY_LABEL: Final = "mesh-ca"
_PIN: Final = "567890"
_LIMIT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmBackend:
    """What a server is given to sign with the token.

    Args:
        settings: The backend's section of the configuration.
        environment: Variables by which SoftHSM2 finds its tokens.
    """

    settings: Mapping[str, object]
    environment: Mapping[str, str]


def softhsm_backend(directory: Path, ca: Path, *, sessions: int = 1) -> HsmBackend:
    """Make a token with a CA's key, and the settings of a backend that uses it.

    Args:
        directory: Gets the token, its configuration and its PIN; must not be there yet.
        ca: Directory in the layout of Istio's secret `cacerts`, with the key.
        sessions: How many sign at once, in each worker.
    """
    tokens, pin = directory / "tokens", directory / "pin"
    tokens.mkdir(parents=True)
    configuration = directory / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    pin.touch(mode=0o600)
    pin.write_text(f"{_PIN}\n")
    environment = {"SOFTHSM2_CONF": str(configuration)}
    pins = ("--so-pin", "12345678", "--pin", _PIN)
    _run(environment, "--init-token", "--free", "--label", _LABEL, *pins)
    _bring_key(directory, ca / "ca-key.pem", environment)
    settings = {
        "type": "pkcs11",
        "certificates": str(ca),
        "module": str(MODULE),
        "token_label": _LABEL,
        "key_label": _KEY_LABEL,
        "pin_file": str(pin),
        "sessions": sessions,
    }
    return HsmBackend(settings=settings, environment=environment)


def _bring_key(directory: Path, key_file: Path, environment: Mapping[str, str]) -> None:
    """Bring a key to the token; SoftHSM2's tool takes PKCS #8 alone, and closes the key."""
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = directory / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(pem)
    name = ("--label", _KEY_LABEL, "--id", "01")
    _run(environment, "--import", str(file), "--token", _LABEL, "--pin", _PIN, *name)
    file.unlink()


def _run(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(
        ["softhsm2-util", *arguments],
        check=True,
        capture_output=True,
        timeout=_LIMIT_S,
        env={**os.environ, **environment},
    )
