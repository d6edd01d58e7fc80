"""Starts meshsigner as a person does, through its command line, and ends it kindly or not.

Leaves to the tests what they ask of it. Only processes that were started here are ended.
"""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 60.0
POLL_S = 0.05
LOG_TAIL = 3_000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A meshsigner command and one state directory of its development server.

    Args:
        command: Path of the `meshsigner` command.
        state_dir: Where `dev run` keeps CA, token issuer and inventory.
        options: Further options of `dev run`.
        environment: Settings that its defaults do not have, as environment variables.
    """

    command: Path
    state_dir: Path
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """PEM file of the mesh roots, which the serving certificate chains to as well."""
        return self.state_dir / "root-cert.pem"

    @property
    def inventory(self) -> Path:
        """The inventory's database file."""
        return self.state_dir / "inventory.db"

    def call(self, *arguments: str) -> str:
        """Run a subcommand to its end and return what it prints.

        Raises:
            subprocess.CalledProcessError: It failed; its error output is in the exception's notes.
        """
        done = subprocess.run(
            [self.command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        if done.returncode != 0:
            problem = subprocess.CalledProcessError(done.returncode, [*arguments])
            problem.add_note(done.stderr)
            raise problem
        return done.stdout

    def token(self, account: str, *options: str, namespace: str = "foo") -> str:
        """Return a token for a service account, made by `meshsigner dev token`."""
        where = ("--state-dir", str(self.state_dir))
        who = ("--namespace", namespace, "--service-account", account)
        return self.call("dev", "token", *where, *who, *options).strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A development server that answers.

    Args:
        installation: What it runs from.
        listen: host:port of the gRPC service.
        admin: host:port of probes and metrics.
        process: The started process; it leads a session of its own.
        log: File that gets its output.
    """

    installation: Installation
    listen: str
    admin: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def kill(self) -> None:
        """End it, and any process it started, by SIGKILL, as a crash or the kernel would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self) -> int:
        """Ask it to end by SIGTERM and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def free_address(*, besides: str = "") -> str:
    """Return a free loopback address, away from the ports that clients get.

    Args:
        besides: An address that is already given to somebody.
    """
    while True:
        port = random.randrange(20_000, 30_000)  # noqa: S311 # no secret
        if besides.endswith(f":{port}"):
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"


def start(
    installation: Installation, *, under: Sequence[str] = (), listen: str | None = None
) -> RunningServer:
    """Start `meshsigner dev run` and wait until it is ready.

    Args:
        installation: Command and state directory.
        under: A command that runs it, such as a tracer.
        listen: host:port to serve on; a free port by default.

    Raises:
        RuntimeError: It ended or was not ready in time; the text holds the end of its log.
    """
    server_address = listen or free_address()
    admin = free_address(besides=server_address)
    installation.state_dir.mkdir(parents=True, exist_ok=True)
    log = installation.state_dir.with_suffix(".log")
    where = ("--state-dir", str(installation.state_dir), "--listen", server_address)
    what = (*where, "--admin", admin, *installation.options)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*under, str(installation.command), "dev", "run", *what],
            env=os.environ | dict(installation.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = RunningServer(
        installation=installation, listen=server_address, admin=admin, process=process, log=log
    )
    wait_until_ready(running)
    return running


def wait_until_ready(running: RunningServer) -> None:
    """Poll the readiness probe; whatever happens, leave no half-started process behind."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _is_ready(running.admin):
        if running.process.poll() is not None or time.monotonic() > deadline:
            ended = running.process.poll()
            if ended is None:
                running.kill()
            tail = running.log.read_text(errors="replace")[-LOG_TAIL:]
            raise RuntimeError(f"not ready, exit status {ended}:\n{tail}")
        time.sleep(POLL_S)


def _is_ready(admin: str) -> bool:
    """Ask /healthz/ready once."""
    connection = http.client.HTTPConnection(admin, timeout=2.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False


@contextlib.contextmanager
def running(
    installation: Installation, *, under: Sequence[str] = (), listen: str | None = None
) -> Iterator[RunningServer]:
    """Have a server for the length of a block and end it kindly after that.

    Raises:
        RuntimeError: It did not end well when asked to.
    """
    server = start(installation, under=under, listen=listen)
    try:
        yield server
    finally:
        status = server.stop()
    if status != 0:
        raise RuntimeError(f"ended with {status}:\n{server.log.read_text()[-LOG_TAIL:]}")
