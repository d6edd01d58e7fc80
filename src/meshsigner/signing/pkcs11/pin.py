"""The token's PIN: where it is read, and when it may be tried.

A token locks after a few wrong PINs, and then only its security officer can
help. So a PIN that was refused is never tried again, by no process of this
server, until it is another one: its file was written again, or the server was
started again. The PIN itself is read anew for each login and kept nowhere; what
is noted down about a refused one is when its file was written.

Source: PKCS #11 v2.40 3.2 (CKF_USER_PIN_LOCKED, _FINAL_TRY, _COUNT_LOW).
"""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from errno import EACCES
from pathlib import Path
from typing import Protocol

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.pkcs11.cryptoki import OK, PIN_FAULTS
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import expect_closed, read_file
from meshsigner.trust.writing import PRIVATE_MODE, locked, write_file

_MARK = "pin-refused.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A PIN as it is now.

    Attributes:
        value: What the token gets.
        version: Tells this one from the next without giving it away.
    """

    value: bytes = field(repr=False)
    version: str


class PinSource(Protocol):
    """Where the PIN comes from."""

    def read(self) -> Pin:
        """Read it.

        Raises:
            ConfigurationError: There is none, or others can read it too.
        """
        ...

    def __str__(self) -> str:
        """Name the place in a message."""
        ...


@dataclass(frozen=True, slots=True)
class PinFile:
    """A PIN in a file of its own, 0600 as a private key.

    Attributes:
        path: Where it is; one line.
    """

    path: Path

    def read(self) -> Pin:
        """Read the file."""
        expect_closed(self.path)
        findings = Findings()
        content = read_file(self.path, findings)
        if findings.problems or content is None:
            raise ConfigurationError(*findings.problems)
        found = self.path.stat()
        version = f"{found.st_dev}:{found.st_ino}:{found.st_mtime_ns}:{found.st_ctime_ns}"
        return Pin(value=content.rstrip(b"\r\n"), version=version)

    def __str__(self) -> str:
        """Name the file."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PinVariable:
    """A PIN in an environment variable.

    Attributes:
        name: Of the variable.
    """

    name: str

    def read(self) -> Pin:
        """Read the variable."""
        value = os.environ.get(self.name, "")
        if not value:
            raise ConfigurationError(
                f"environment variable {self.name} is not set; expected the token's PIN; set it, "
                "or use `pin_file`"
            )
        return Pin(value=value.encode(), version="environment")

    def __str__(self) -> str:
        """Name the variable."""
        return f"environment variable {self.name}"


class PinGuard:
    """Logs in, unless this PIN was refused already.

    Args:
        source: Where the PIN comes from.
        directory: Where all processes of this server note a refusal; None, or
            one that cannot be written, keeps it to this process.
    """

    def __init__(self, source: PinSource, directory: Path | None) -> None:
        self._source = source
        self._directory = directory
        self._refused: dict[str, str] = {}

    def login(self, attempt: Callable[[bytes], int]) -> None:
        """Log in with the PIN as it is now; one process after the other.

        Args:
            attempt: Tries it; returns `OK` or a code of `PIN_FAULTS`.

        Raises:
            BackendUnavailable: The token refuses it, or has done so before.
            ConfigurationError: There is no PIN, or its file is open to others.
        """
        pin = self._source.read()
        with ExitStack() as holding:
            self._hold_directory(holding)
            self._login(pin, attempt)

    def _hold_directory(self, holding: ExitStack) -> None:
        """Keep the other processes out; where nothing can be written, go on alone."""
        if self._directory is None:
            return
        try:
            holding.enter_context(locked(self._directory))
            if not os.access(self._directory, os.W_OK):
                raise PermissionError(EACCES, os.strerror(EACCES))
        except OSError as error:
            get_logger().warning(
                Event.PIN_UNGUARDED, directory=str(self._directory), cause=error.strerror
            )
            self._directory = None

    def _login(self, pin: Pin, attempt: Callable[[bytes], int]) -> None:
        refusal = self._remembered(pin)
        if refusal is None:
            code = attempt(pin.value)
            if code == OK:
                self._forget()
                return
            refusal = PIN_FAULTS[code]
            self._remember(pin, refusal)
        raise BackendUnavailable(
            f"the token refused the PIN from {self._source} as {refusal}; it is not tried again, "
            "for the token would lock; write the right PIN there (a locked one is unlocked by the "
            "token's security officer), or start the server again"
        )

    def _remembered(self, pin: Pin) -> str | None:
        """Return why this PIN was refused, or None when it may be tried."""
        noted = self._refused or self._noted()
        return noted.get("why", "") if noted.get("version") == pin.version else None

    def _noted(self) -> dict[str, str]:
        if self._directory is None:
            return {}
        try:
            noted: dict[str, str] = json.loads((self._directory / _MARK).read_bytes())
        except (OSError, ValueError):
            return {}
        return noted if noted.get("run") == _run() else {}

    def _remember(self, pin: Pin, why: str) -> None:
        self._refused = {"version": pin.version, "why": why, "run": _run()}
        if self._directory is not None:
            note = json.dumps(self._refused).encode()
            write_file(self._directory / _MARK, note, mode=PRIVATE_MODE)

    def _forget(self) -> None:
        self._refused = {}
        if self._directory is not None:
            (self._directory / _MARK).unlink(missing_ok=True)


def _run() -> str:
    """Name this run of the server: the same in all of its workers, another after a restart.

    A worker's parent, the supervisor, runs the same program as itself; that of a
    server of one process is a shell or an init.

    Source: proc(5): `exe`; field 22 of `stat`, counted behind the name.
    """
    own, parent = os.getpid(), os.getppid()
    try:
        is_worker = os.path.samefile(f"/proc/{parent}/exe", "/proc/self/exe")  # noqa: PTH121 - no such paths
        process = parent if is_worker else own
        begun = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:  # no such file system, or another user's process: this one alone, then
        return str(own)
    return f"{process}:{begun}"
