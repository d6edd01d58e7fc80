"""Starts the demonstration's processes, waits for them, and ends them in reverse order."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final

HERE: Final = Path(__file__).resolve().parent
_START_S: Final = 60.0
_STOP_S: Final = 20.0
_REQUEST_S: Final = 20.0
_POLL_S: Final = 0.05
_TAIL: Final = 2_000  # characters


class PartFailedError(Exception):
    """A process did not start, or ended on the way; the text tells the end of its log."""


def free_port() -> int:
    """Return a port of the loopback address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for a request.

    Attributes:
        status: HTTP status.
        headers: Headers, names in lower case.
    """

    status: int
    headers: Mapping[str, str]


def get(port: int, path: str = "/") -> Reply:
    """Send one request to a port of the loopback address.

    Raises:
        OSError: Nobody answers.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_REQUEST_S)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(status=response.status, headers=headers)


def is_ok(port: int, path: str) -> bool:
    """Tell whether a request is answered with 200."""
    try:
        return get(port, path).status == http.HTTPStatus.OK
    except OSError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A process of the demonstration.

    Attributes:
        name: What it is.
        process: The process.
        log: File that gets its output.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self, reached: Callable[[], bool]) -> None:
        """Wait until it is there.

        Raises:
            PartFailedError: It ended, or took too long.
        """
        deadline = time.monotonic() + _START_S
        while not reached():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-_TAIL:]
                raise PartFailedError(f"{self.name} did not start:\n{tail}")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it, kindly at first."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_STOP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the demonstration happens.

    Attributes:
        meshsigner: The command.
        envoy: Envoy's command.
        directory: For sockets, state and logs; its path is short, as a socket's must be.
        parts: Ends every process that was started.
    """

    meshsigner: Path
    envoy: Path
    directory: Path
    parts: ExitStack = field(default_factory=ExitStack)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Part:
        """Start a process."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        part = Part(name=name, process=process, log=log)
        self.parts.callback(part.stop)
        return part

    def start_envoy(self, name: str, template: str, values: Mapping[str, object]) -> Part:
        """Start an Envoy by a configuration of this folder.

        Args:
            name: For its files.
            template: The configuration's file name.
            values: What its words in capitals stand for, ADMIN_PORT among them.
        """
        config = self.directory / f"{name}.yaml"
        config.write_text(Template((HERE / template).read_text()).substitute(values))
        fixed = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        return self.start(name, [str(self.envoy), "-c", str(config), *fixed])
