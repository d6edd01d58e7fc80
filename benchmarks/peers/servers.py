"""The servers that are compared, each started from the same files and kept on the same core.

meshsigner runs as in production: `meshsigner serve`, a supervisor and its workers, with
inventory, logs and metrics on. Istio's CA is the Go program in `istio_ca/`. A server is
known by its command line, its port and its files, never by its code.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.load.client import Server
from benchmarks.peers.authority import ISSUER, NAME, TRUST_DOMAIN, Authority
from benchmarks.scenarios.servers import HOST, free_port, listens, says_ready, started

MESHSIGNER: Final = Path(sys.executable).with_name("meshsigner")


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
        ServerFailedError: It did not get ready.
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
        ServerFailedError: It did not get ready.
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
    server = Server(host=HOST, port=port, name=NAME, roots=place.authority.roots)
    with _started(command, place, server, lambda: says_ready(admin)) as pid:
        yield Peer(name=name, pid=pid, server=server, admin_port=admin)


@contextmanager
def istio_ca(binary: Path, place: Place, *, bare: bool = False) -> Iterator[Peer]:
    """Run Istio's CA on one scheduler thread (GOMAXPROCS=1).

    Args:
        binary: The built program.
        place: Where, and from what.
        bare: Without what istiod has around the service.

    Raises:
        ServerFailedError: It did not get ready.
    """
    port = free_port()
    place.work.mkdir(parents=True, exist_ok=True)
    command = [str(binary), f"-listen={HOST}:{port}", f"-ca={place.authority.ca}", "-procs=1"]
    command += [f"-jwks={place.jwks}", f"-issuer={ISSUER}", f"-trust-domain={TRUST_DOMAIN}"]
    command += [f"-certificate={place.authority.serving_certificate}"]
    command += [f"-key={place.authority.serving_key}", f"-bare={str(bare).lower()}"]
    server = Server(host=HOST, port=port, name=NAME, roots=place.authority.roots)
    with _started(command, place, server, lambda: listens(port)) as pid:
        yield Peer(name="istio", pid=pid, server=server)


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
    command: list[str], place: Place, server: Server, is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Run a command until the block ends, its output in a log; give its process id."""
    variables = [f"{name}={value}" for name, value in place.environment.items()]
    cores = [] if place.core is None else [place.core]
    with started(
        ["env", *variables, *command], place.work / "log", cores, server, is_ready
    ) as running:
        yield running.process.pid
