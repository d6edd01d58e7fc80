"""A SoftHSM2 token of a test's own, and a module in front of it that breaks on command."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.authority import CaKey

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
LABEL = "mesh"
PIN = "567890"
SO_PIN = "12345678"
KEY_LABEL = "mesh-ca"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftHsm:
    """Tokens in a directory.

    Attributes:
        directory: Holds configuration, tokens and PIN file.
        module: What programs load: SoftHSM2 itself, or the shim before it.
    """

    directory: Path
    module: Path = MODULE

    @property
    def tokens(self) -> Path:
        """Where SoftHSM2 keeps its tokens."""
        return self.directory / "tokens"

    @property
    def pin_file(self) -> Path:
        """The PIN, as a configuration names it."""
        return self.directory / "pin"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to find the tokens, and the shim its orders."""
        return {
            "SOFTHSM2_CONF": str(self.directory / "softhsm2.conf"),
            "SHIM_MODULE": str(MODULE),
            "SHIM_CONTROL": str(self.directory / "control"),
            "SHIM_CALLS": str(self.directory / "calls"),
        }

    def set_up(self) -> None:
        """Make one token with a user PIN."""
        self.tokens.mkdir(parents=True)
        (self.directory / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.write_pin(PIN)
        self.add_token(LABEL)

    def write_pin(self, pin: str) -> None:
        """Write the PIN file anew."""
        self.pin_file.write_text(pin + "\n")
        self.pin_file.chmod(0o600)

    def add_token(self, label: str) -> None:
        """Make a token."""
        pins = ("--so-pin", SO_PIN, "--pin", PIN)
        self._run("softhsm2-util", "--init-token", "--free", "--label", label, *pins)

    def serials(self) -> list[str]:
        """Return the tokens' serial numbers."""
        shown = self._run("softhsm2-util", "--show-slots")
        return re.findall(r"Serial number: +([0-9a-f]+)", shown)

    def add_key(
        self, key: CaKey, *options: str, label: str = KEY_LABEL, token: str = LABEL, number: int = 1
    ) -> None:
        """Bring a key to the token, closed to copying unless the options say otherwise."""
        where = ("--module", str(MODULE), "--token", token, "--pin", PIN)
        name = ("--label", label, "--id", f"{number:02x}")
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        script = (sys.executable, "-m", "tests.conformance.softhsm.make_key")
        self._run(*script, *where, *name, *options, stdin=pem)

    def take_away(self) -> None:
        """Take all tokens out, as if the HSM were unplugged."""
        self.tokens.rename(self.directory / "away")
        self.tokens.mkdir()

    def bring_back(self) -> None:
        """Put them in again."""
        shutil.rmtree(self.tokens)
        (self.directory / "away").rename(self.tokens)

    def order(self, **what: object) -> None:
        """Tell the shim what to break from the next call on; nothing mends it."""
        control = self.directory / "control"
        fresh = control.with_suffix(".new")
        fresh.write_text("".join(f"{name} {value}\n" for name, value in what.items()))
        fresh.rename(control)

    def count(self, call: str) -> int:
        """Return how often a call came through the shim."""
        path = self.directory / "calls"
        return path.read_text().split().count(call) if path.exists() else 0

    def _run(self, *command: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            command,
            check=False,
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **self.environment},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()
