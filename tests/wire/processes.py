"""Starts meshsigner's commands as a person does, for the tests of whole processes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner, Result

from meshsigner.cli import app
from tests.secret_scan import Secrets

PATIENCE_S = 30.0
_POLL_S = 0.05


def _environment() -> dict[str, str]:
    """Return an environment without settings of whoever runs the tests."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MESHSIGNER_", "KUBERNETES_"))}
    return {**kept, "COLUMNS": "200"}


def command(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command of meshsigner to its end."""
    return subprocess.run(
        [sys.executable, "-m", "meshsigner", *map(str, arguments)],
        cwd=cwd,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def invoke(*arguments: object, cwd: Path) -> Result:
    """Run a command of meshsigner in this process, which is quicker."""
    with chdir(cwd):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server process.

    Attributes:
        process: The process.
        directory: Where it runs, with its output in `out` and `err`.
    """

    process: "subprocess.Popen[bytes]"
    directory: Path

    @property
    def said(self) -> str:
        """All that it has written so far."""
        return "".join((self.directory / name).read_text() for name in ("out", "err"))

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until it has written something.

        Raises:
            AssertionError: It has not in time, or has ended.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            ended = self.process.poll() is not None
            match = re.search(pattern, self.said)
            if match:
                return match
            assert not ended, self.said
            time.sleep(_POLL_S)
        raise AssertionError(f"no {pattern!r} in: {self.said}")

    def address(self, name: str = "listen") -> str:
        """Return where it listens, from its own log line."""
        return self.wait_for(rf'"{name}":"([^"]+)"[^\n]*"event":"ready"')[1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def running(*arguments: object, cwd: Path, secrets: Secrets) -> Iterator[Running]:
    """Run a server; it is ended at the end, and what it said is looked at for secrets."""
    with (cwd / "out").open("wb") as out, (cwd / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "meshsigner", *map(str, arguments)],
            cwd=cwd,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    server = Running(process=process, directory=cwd)
    try:
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE_S)
        secrets.saw(server.said)
