"""The servers that are compared, each started from the same files and kept on the same core.

meshsigner runs as in production: `meshsigner serve`, a supervisor and its workers, with
inventory, logs and metrics on. Istio's CA is the Go program in `istio_ca/`. A server is
known by its command line, its port and its files, never by its code.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.load.client import Server
from benchmarks.peers.authority import ISSUER, NAME, TRUST_DOMAIN, Authority
from benchmarks.scenarios.processes import on_core

HOST: Final = "127.0.0.1"
MESHSIGNER: Final = Path(sys.executable).with_name("meshsigner")

_START_LIMIT_S: Final = 60.0
_STOP_LIMIT_S: Final = 30.0
_POLL_S: Final = 0.02
_LAST_LINES: Final = 5


class PeerFailedError(Exception):
    """A server that was to be measured did not start, or did not answer as it must."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server runs and what it runs from.

    Args:
        work: Directory of its own, for configuration, inventory and log.
        authority: CA and serving certificate.
        jwks: File with the token issuer's public keys.
        core: The CPU it is kept on; None leaves it free.
        environment: Variables on top of this process's own.
    """

    work: Path
    authority: Authority
    jwks: Path
    core: int | None = 0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server that answers.

    Args:
        name: For the report.
        pid: Of its first process.
        server: Where it is and how to know it.
        admin_port: Where its metrics are; 0 for a server without.
    """

    name: str
    pid: int
    server: Server
    admin_port: int = 0


@contextmanager
def meshsigner(
    place: Place,
    *,
    settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    name: str = "meshsigner",
) -> Iterator[Peer]:
    """Run `meshsigner serve`.

    Args:
        place: Where, and from what.
        settings: Sections of the configuration to replace or add.
        workers: How many worker processes.
        name: For the report.

    Raises:
        PeerFailedError: It did not get ready.
    """
    command = [str(MESHSIGNER), "serve"]
    with _configured(command, place, dict(settings or {}) | {"workers": workers}, name) as peer:
        yield peer


@contextmanager
def odd_meshsigner(
    place: Place,
    *options: str,
    settings: Mapping[str, Any] | None = None,
    name: str = "meshsigner",
) -> Iterator[Peer]:
    """Run meshsigner as one process, with what `benchmarks.micro.odd_server` can change.

    Args:
        place: Where, and from what.
        options: Of that program.
        settings: Sections of the configuration to replace or add.
        name: For the report.

    Raises:
        PeerFailedError: It did not get ready.
    """
    command = [sys.executable, "-m", "benchmarks.micro.odd_server", *options]
    with _configured(command, place, dict(settings or {}), name) as peer:
        yield peer


@contextmanager
def _configured(
    command: list[str], place: Place, settings: dict[str, Any], name: str
) -> Iterator[Peer]:
    """Write a configuration and run a command with it."""
    port, admin = free_port(), free_port()
    file = place.work / "meshsigner.yaml"
    place.work.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(_configuration(place, port, admin) | settings))
    command = [*command, "--config", str(file)]
    with _started(command, place, lambda: _says_ready(admin)) as process:
        server = Server(host=HOST, port=port, name=NAME, roots=place.authority.roots)
        yield Peer(name=name, pid=process.pid, server=server, admin_port=admin)


@contextmanager
def istio_ca(binary: Path, place: Place, *, bare: bool = False) -> Iterator[Peer]:
    """Run Istio's CA on one scheduler thread (GOMAXPROCS=1).

    Args:
        binary: The built program.
        place: Where, and from what.
        bare: Without what istiod has around the service.

    Raises:
        PeerFailedError: It did not get ready.
    """
    port = free_port()
    place.work.mkdir(parents=True, exist_ok=True)
    command = [str(binary), f"-listen={HOST}:{port}", f"-ca={place.authority.ca}", "-procs=1"]
    command += [f"-jwks={place.jwks}", f"-issuer={ISSUER}", f"-trust-domain={TRUST_DOMAIN}"]
    command += [f"-certificate={place.authority.serving_certificate}"]
    command += [f"-key={place.authority.serving_key}", f"-bare={str(bare).lower()}"]
    with _started(command, place, lambda: _listens(port)) as process:
        server = Server(host=HOST, port=port, name=NAME, roots=place.authority.roots)
        yield Peer(name="istio", pid=process.pid, server=server)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _configuration(place: Place, port: int, admin: int) -> dict[str, Any]:
    tokens = {"type": "jwks", "issuer": ISSUER, "jwks_file": str(place.jwks)}
    tls = {
        "type": "files",
        "certificate": str(place.authority.serving_certificate),
        "key": str(place.authority.serving_key),
    }
    return {
        "trust_domain": TRUST_DOMAIN,
        "clusters": [{"id": "Kubernetes", "local": True, "authenticators": [tokens]}],
        "issuer": {"type": "directory", "path": str(place.authority.ca)},
        "listen": {"address": f"{HOST}:{port}", "tls": tls},
        "admin": {"address": f"{HOST}:{admin}"},
        "inventory": {"type": "sqlite", "path": str(place.work / "inventory.db")},
    }


@contextmanager
def _started(
    command: list[str], place: Place, is_ready: Callable[[], bool]
) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command until the block ends; its output goes to a log in its directory."""
    log = place.work / "log"
    environment = dict(os.environ) | dict(place.environment)
    with log.open("ab") as output, _kept_on(place.core):
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        _wait_until(is_ready, process, log)
        yield process
    finally:
        _stop(process)


@contextmanager
def _kept_on(core: int | None) -> Iterator[None]:
    with nullcontext() if core is None else on_core(core):
        yield


def _wait_until(
    is_ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path
) -> None:
    deadline = time.perf_counter() + _START_LIMIT_S
    while not is_ready():
        if process.poll() is not None or time.perf_counter() > deadline:
            lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            why = f"ended with {process.returncode}" if process.returncode else "is not ready"
            raise PeerFailedError(f"{log}: the server {why}: {' | '.join(lines)}")
        time.sleep(_POLL_S)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _says_ready(admin_port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, admin_port, timeout=1)
    try:
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
