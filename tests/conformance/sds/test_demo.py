"""`make demo` ends well by itself, and says so when something went wrong."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.prerequisites import PROJECT

TIMEOUT_S = 180.0
SHORT = ("--seconds", "12")


@contextmanager
def _demo(command: Path, scratch: Path) -> Iterator["subprocess.Popen[str]"]:
    """Have the demonstration running; its directory is made in a scratch directory."""
    with subprocess.Popen(
        [sys.executable, "-m", "examples.envoy.demo", "--meshsigner", command, *SHORT],
        cwd=PROJECT,
        env=os.environ | {"TMPDIR": os.fspath(scratch), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        yield process


def test_demo_ends_well(command: Path, place: Path) -> None:
    """It shows who has proven what, loses no request over renewals, and leaves nothing behind."""
    with _demo(command, place) as demo:
        told, _ = demo.communicate(timeout=TIMEOUT_S)
    assert demo.returncode == 0, told
    assert "the client has proven to be spiffe://cluster.local/ns/demo/sa/client" in told
    assert "the server has proven to be spiffe://cluster.local/ns/demo/sa/server" in told
    assert re.search(r"[1-9]\d* certificates renewed meanwhile, 0 requests failed", told), told
    assert "refused: status 503" in told
    assert not list(place.iterdir())


def test_demo_tells_a_failure(command: Path, place: Path) -> None:
    """With the server's Envoy killed in the middle it ends with 1 and counts what failed."""
    with _demo(command, place) as demo:
        assert demo.stdout is not None
        told = ""
        for line in demo.stdout:
            told += line
            if line.startswith("3."):
                os.kill(_server(told), signal.SIGKILL)
    assert demo.returncode == 1, told
    assert re.search(r"[1-9]\d* requests failed", told), told
    assert "logs are kept in" in told


def _server(told: str) -> int:
    """Find the process that the demonstration has started for its server."""
    found = re.search(r"the server's Envoy \(process (\d+)\)", told)
    assert found is not None, told
    return int(found[1])
