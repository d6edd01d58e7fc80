"""Starts a real Envoy, asks its administration, sends it requests, and ends it.

What it is started with is `bootstrap`'s matter. Only processes that were started here are ended,
everything is on loopback.
"""

import contextlib
import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.prerequisites import SERVERS_BIN
from tests.conformance.sds.bootstrap import Bootstrap

PACKAGE = "lib/python*/site-packages/envoy/_bin/envoy"
LIVE_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
REQUEST_TIMEOUT_S = 30.0
POLL_S = 0.05
LOG_TAIL = 4_000  # characters
# One worker, and no memory shared with another Envoy of this machine.
_FIXED = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "info")


def binary() -> Path:
    """Return Envoy's binary itself: its wrapper would stand between us and its process id.

    Raises:
        FileNotFoundError: It is not installed.
    """
    for found in SERVERS_BIN.parent.glob(PACKAGE):
        return found
    msg = f"no Envoy in {SERVERS_BIN.parent}; make servers"
    raise FileNotFoundError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for a request.

    Attributes:
        status: HTTP status.
        headers: Headers, names in lower case.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: str


def get(address: str, path: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Reply:
    """Send one request over a connection of its own.

    Raises:
        OSError: Nobody answers.
        http.client.HTTPException: What answers is not whole.
    """
    with contextlib.closing(http.client.HTTPConnection(address, timeout=timeout_s)) as connection:
        return ask(connection, path)


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET") -> Reply:
    """Send one request over a connection that may be kept."""
    connection.request(method, path)
    response = connection.getresponse()
    headers = {key.lower(): value for key, value in response.getheaders()}
    return Reply(status=response.status, headers=headers, body=response.read().decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Envoy:
    """An Envoy that runs.

    Attributes:
        name: Its node id.
        admin: host:port of its administration.
        process: The process.
        log: File that gets its output.
    """

    name: str
    admin: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def state(self) -> str:
        """Its own word for how far it is: LIVE, INITIALIZING, ... or empty when it is silent."""
        try:
            return get(self.admin, "/ready").body.strip()
        except OSError:
            return ""

    def wait_live(self) -> None:
        """Wait until it has all its secrets and serves."""
        self.wait(lambda: self.state == "LIVE", "LIVE")

    def wait(self, reached: Callable[[], bool], what: str, timeout_s: float | None = None) -> None:
        """Wait for a state of this Envoy.

        Args:
            reached: Tells whether it is reached.
            what: The state in words.
            timeout_s: The longest wait.

        Raises:
            AssertionError: It ended, or it took too long; the text holds the end of its log.
        """
        deadline = time.monotonic() + (timeout_s or LIVE_TIMEOUT_S)
        while not reached():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                msg = f"{self.name} not {what} (exit status {ended}):\n{self.tail()}"
                raise AssertionError(msg)
            time.sleep(POLL_S)

    def stats(self, pattern: str) -> dict[str, int]:
        """Return its counters and gauges whose name matches a pattern."""
        body = get(self.admin, f"/stats?filter={pattern}").body
        pairs = (line.rsplit(": ", 1) for line in body.splitlines() if ": " in line)
        return {name: int(value) for name, value in pairs if value.isdigit()}

    def total(self, pattern: str) -> int:
        """Return the sum of its counters and gauges whose name matches a pattern."""
        return sum(self.stats(pattern).values())

    def serials(self) -> set[str]:
        """Return the serial numbers of the certificates that it presents, lower-case hex."""
        used = json.loads(get(self.admin, "/certs").body)["certificates"]
        chains = [one["cert_chain"] for one in used if one.get("cert_chain")]
        return {chain[0]["serial_number"].lstrip("0").lower() for chain in chains}

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:]

    def stop(self) -> None:
        """End it at once; nothing of it is needed any more."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)


@contextlib.contextmanager
def running(
    bootstrap: Bootstrap, directory: Path, *, program: Path | None = None, user: int | None = None
) -> Iterator[Envoy]:
    """Have an Envoy for the length of a block; it need not be live yet.

    Args:
        bootstrap: What it is started with.
        directory: Gets its bootstrap file and its log.
        program: Its binary; that of the servers' environment by default.
        user: Numeric user, and group, to run it as.
    """
    config = directory / f"{bootstrap.node}.json"
    config.write_text(json.dumps(bootstrap.document(), indent=1))
    with started(
        bootstrap.node, config, bootstrap.admin, directory, program=program, user=user
    ) as envoy:
        yield envoy


@contextlib.contextmanager
def started(
    name: str,
    config: Path,
    admin: str,
    directory: Path,
    *,
    program: Path | None = None,
    user: int | None = None,
) -> Iterator[Envoy]:
    """Have an Envoy with a configuration that is written already.

    Args:
        name: Of its log.
        config: The configuration.
        admin: host:port of its administration in there.
        directory: Gets its log.
        program: Its binary; that of the servers' environment by default.
        user: Numeric user, and group, to run it as.
    """
    log = directory / f"{name}.log"
    command = [os.fspath(program or binary()), "-c", os.fspath(config), *_FIXED]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    envoy = Envoy(name=name, admin=admin, process=process, log=log)
    try:
        yield envoy
    finally:
        envoy.stop()
