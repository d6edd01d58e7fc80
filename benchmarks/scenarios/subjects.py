"""The servers that can be put under load: meshsigner, Istio's CA, and one that runs already."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import yaml
from cryptography import x509

from benchmarks.load.audit import certificate_digest
from benchmarks.load.client import Server
from benchmarks.scenarios.servers import HOST, NAME, free_port, listens, says_ready, started
from benchmarks.scenarios.subject import Running, Setup
from tests.conformance.go_binary import ISTIO_CA

_MESHSIGNER: Final = str(Path(sys.executable).with_name("meshsigner"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Meshsigner:
    """`meshsigner serve`, with inventory, logs and metrics on."""

    name: str = "meshsigner"

    @contextmanager
    def running(self, setup: Setup) -> Iterator[Running]:
        """Run one for the length of a block."""
        port, admin = setup.port or free_port(), free_port()
        settings = _configuration(setup, port, admin) | dict(setup.settings)
        setup.directory.mkdir(parents=True, exist_ok=True)
        file = setup.directory / "meshsigner.yaml"
        file.write_text(yaml.safe_dump(settings))
        command = [_MESHSIGNER, "serve", "--config", str(file)]
        server = Server(host=HOST, port=port, name=NAME, roots=setup.mesh.roots)
        log = setup.directory / "log"
        with started(command, log, setup.cores, server, lambda: says_ready(admin)) as process:
            yield Running(
                name=self.name,
                server=server,
                pid=process.process.pid,
                metrics_url=f"http://{HOST}:{admin}/metrics",
                inventory=ListedInventory(database=setup.directory / "inventory.db"),
                settings=settings,
                ready_after_s=process.ready_after_s,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioCa:
    """Istio's own CA: writes nothing down, and has no metrics here."""

    name: str = "istio-ca"

    @contextmanager
    def running(self, setup: Setup) -> Iterator[Running]:
        """Run one for the length of a block; `workers` is GOMAXPROCS."""
        port, mesh = setup.port or free_port(), setup.mesh
        setup.directory.mkdir(parents=True, exist_ok=True)
        command = [str(ISTIO_CA.path), f"-listen={HOST}:{port}", f"-ca={mesh.ca}"]
        command += [f"-jwks={mesh.jwks}", f"-issuer={mesh.tokens.issuer}"]
        command += [f"-trust-domain={mesh.trust_domain}", f"-procs={setup.workers}"]
        command += [f"-certificate={mesh.authority.serving_certificate}"]
        command += [f"-key={mesh.authority.serving_key}"]
        server = Server(host=HOST, port=port, name=NAME, roots=mesh.roots)
        log = setup.directory / "log"
        with started(command, log, setup.cores, server, lambda: listens(port)) as process:
            yield Running(
                name=self.name,
                server=server,
                pid=process.process.pid,
                settings={"GOMAXPROCS": setup.workers},
                ready_after_s=process.ready_after_s,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A server that somebody else has started, with a CA and a token issuer of its own.

    Args:
        server: Where it is.
        pid: Of its first process, if it runs on this machine.
        metrics_url: Where its metrics are.
    """

    server: Server
    pid: int | None = None
    metrics_url: str = ""
    name: str = "foreign"

    @contextmanager
    def running(self, setup: Setup) -> Iterator[Running]:  # noqa: ARG002 - it has its own
        """Take it as it is."""
        yield Running(
            name=self.name, server=self.server, pid=self.pid, metrics_url=self.metrics_url
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedInventory:
    """An inventory as `meshsigner inventory list` shows it.

    Args:
        database: What `inventory.path` names.
    """

    database: Path

    def recorded(self) -> Iterator[tuple[int, bytes]]:
        """Yield each row's serial number and certificate digest.

        Raises:
            subprocess.CalledProcessError: The inventory cannot be read.
        """
        command = [_MESHSIGNER, "inventory", "list", "--database", str(self.database)]
        command += ["--limit", "0", "--json", "--certificates"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
            for line in cast("IO[str]", listing.stdout):
                text = line.strip().strip("[],")
                if text:
                    yield _row(json.loads(text))
        if listing.returncode:
            raise subprocess.CalledProcessError(listing.returncode, command)


def _row(row: dict[str, Any]) -> tuple[int, bytes]:
    certificate = x509.load_pem_x509_certificate(row["certificate"].encode())
    return certificate.serial_number, certificate_digest(certificate)


def _configuration(setup: Setup, port: int, admin: int) -> dict[str, Any]:
    mesh = setup.mesh
    tokens = {"type": "jwks", "issuer": mesh.tokens.issuer, "jwks_file": str(mesh.jwks)}
    tls = {
        "type": "files",
        "certificate": str(mesh.authority.serving_certificate),
        "key": str(mesh.authority.serving_key),
    }
    return {
        "trust_domain": mesh.trust_domain,
        "clusters": [{"id": "Kubernetes", "local": True, "authenticators": [tokens]}],
        "issuer": {"type": "directory", "path": str(mesh.ca)},
        "listen": {"address": f"{HOST}:{port}", "tls": tls},
        "admin": {"address": f"{HOST}:{admin}"},
        "inventory": {"type": "sqlite", "path": str(setup.directory / "inventory.db")},
        "workers": setup.workers,
    }
