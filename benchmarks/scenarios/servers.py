"""Starts and stops the servers under test, each as a process of its own on one core.

The scenario knows a server by its command line, its port and its files, never by its
code: whatever is measured is what a user would start.
"""

import base64
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from benchmarks.load.client import Server
from benchmarks.load.tokens import TokenIssuer
from benchmarks.scenarios.processes import on_cores

HOST: Final = "127.0.0.1"
NAME: Final = "localhost"

_START_LIMIT_S: Final = 60.0
_STOP_LIMIT_S: Final = 30.0
_POLL_S: Final = 0.01
_MESHSIGNER: Final = str(Path(sys.executable).with_name("meshsigner"))


class ServerFailedError(Exception):
    """A server under test did not start, or ended before it was told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers.

    Args:
        process: Its first process.
        server: Where it is and how to know it.
        ready_after_s: Time from its start until it said that it was ready.
    """

    process: subprocess.Popen[bytes]
    server: Server
    ready_after_s: float


@contextmanager
def empty_server(work: Path, key: Path, chain: Path, answer: Path, core: int) -> Iterator[Running]:
    """Run the unit of cost: the same shell, constant bytes."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.micro.empty_server"]
    command += ["--listen", f"{HOST}:{port}", "--key", str(key), "--chain", str(chain)]
    command += ["--answer", str(answer)]
    server = Server(host=HOST, port=port, name=NAME, roots=chain)
    with started(command, work / "empty.log", [core], server, lambda: listens(port)) as running:
        yield running


@contextmanager
def meshsigner(state: Path, log: Path, core: int) -> Iterator[Running]:
    """Run meshsigner on its development defaults, with everything on."""
    port, admin = free_port(), free_port()
    command = [_MESHSIGNER, "dev", "run", "--state-dir", str(state)]
    command += ["--listen", f"{HOST}:{port}", "--admin", f"{HOST}:{admin}"]
    server = Server(host=HOST, port=port, name=NAME, roots=state / "root-cert.pem")
    with started(command, log, [core], server, lambda: says_ready(admin)) as running:
        yield running


def development_issuer(state: Path) -> TokenIssuer:
    """Return the issuer that a development server trusts, to mint tokens in bulk.

    The key comes from the state directory; its id and the issuer's name from one token
    that `meshsigner dev token` makes, so that both are what the server itself uses.
    """
    command = [_MESHSIGNER, "dev", "token", "--state-dir", str(state)]
    command += ["--namespace", "bench", "--service-account", "bench"]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    head, claims = (_decode_segment(part) for part in token.split(".")[:2])
    pem = (state / "token-issuer-key.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise TypeError(f"the development issuer has a {type(key).__name__}")
    return TokenIssuer(key=key, key_id=head["kid"], issuer=claims["iss"], audience=claims["aud"][0])


@contextmanager
def started(
    command: Sequence[str],
    log: Path,
    cores: Collection[int],
    server: Server,
    is_ready: Callable[[], bool],
) -> Iterator[Running]:
    """Run a server for the length of a block.

    Args:
        command: What starts it.
        log: File that its output is added to.
        cores: CPUs that it may use; none: all.
        server: Where it will be.
        is_ready: Whether it answers.

    Raises:
        ServerFailedError: It ended, or was not ready in time.
    """
    with log.open("ab") as output:
        began = time.perf_counter()
        with on_cores(cores):
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_until(is_ready, process, log)
            after_s = time.perf_counter() - began
            yield Running(process=process, server=server, ready_after_s=after_s)
        finally:
            _stop(process)


def _wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.perf_counter() + _START_LIMIT_S
    while not is_ready():
        if process.poll() is not None:
            raise ServerFailedError(f"ended with {process.returncode}: {_last_lines(log)}")
        if time.perf_counter() > deadline:
            raise ServerFailedError(f"not ready after {_START_LIMIT_S} s: {_last_lines(log)}")
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Tell whether somebody takes connections."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def says_ready(admin_port: int) -> bool:
    """Tell whether the readiness probe says yes."""
    connection = http.client.HTTPConnection(HOST, admin_port, timeout=1)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:])


def _decode_segment(segment: str) -> dict[str, Any]:
    padded = segment + "=" * (-len(segment) % 4)
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return decoded
