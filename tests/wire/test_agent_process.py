"""`meshsigner agent` as processes: beside a real server, killed, misconfigured."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.dev_tokens import ISSUER
from meshsigner.cli.exits import Exit
from tests.secret_scan import Secrets
from tests.wire.harness import until
from tests.wire.processes import Running, command, invoke, running
from tests.wire.sds import client_of, sotw_request

# The shortest lifetime that may be granted is ten times the backdate.
SERVER = f"""\
trust_domain: cluster.local
clusters:
  - id: Kubernetes
    authenticators: [{{type: jwks, issuer: "{ISSUER}", jwks_file: .state/jwks.json}}]
issuer: {{type: directory, path: .state/ca}}
listen:
  address: 127.0.0.1:0
  tls: {{type: issuer, dns_names: [localhost], ip_addresses: [127.0.0.1], directory: serving}}
admin: {{address: "127.0.0.1:0"}}
inventory: {{path: inventory.db}}
policy: {{backdate: 2s}}
"""
AGENT = """\
ca: {{address: "{ca}", root_file: .state/root-cert.pem}}
workloads:
  - {{token_file: token, socket: sds/socket, lifetime: 20s, output_directory: certs}}
renewal: {{grace_ratio: 0.9, spread: 0s}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a server that is ready, in a directory with its CA and a token issuer."""
    folder = tmp_path_factory.mktemp("server")
    DevState(folder / ".state").prepare(datetime.now(UTC))
    (folder / "meshsigner.yaml").write_text(SERVER)
    secrets = Secrets()
    with running("serve", "--config", "meshsigner.yaml", cwd=folder, secrets=secrets) as server:
        server.address()
        yield server
    assert secrets.leaks() == []


@pytest.fixture
def folder(server: Running, tmp_path: Path, no_secrets: Secrets) -> Path:
    """Return a directory with what a workload has: a root, a token, a configuration."""
    (tmp_path / ".state").symlink_to(server.directory / ".state")
    (tmp_path / "agent.yaml").write_text(AGENT.format(ca=server.address()))
    who = ("--namespace", "bookinfo", "--service-account", "productpage")
    token = no_secrets.register(invoke("dev", "token", *who, cwd=tmp_path).stdout.strip())
    (tmp_path / "token").write_text(token)
    return tmp_path


@pytest.fixture
def agent(folder: Path, no_secrets: Secrets) -> Iterator[Running]:
    """Return an agent that has a certificate of 20 s, which it renews after 2 s."""
    with running("agent", "run", "--config", "agent.yaml", cwd=folder, secrets=no_secrets) as agent:
        agent.wait_for("certificate obtained")
        yield agent


def _status(folder: Path) -> dict[str, object]:
    done = invoke("agent", "status", "--config", "agent.yaml", "--json", cwd=folder)
    assert done.exit_code == 0, done.stderr
    (workload,) = json.loads(done.stdout)["workloads"]
    assert isinstance(workload, dict)
    return workload


async def _versions(folder: Path, count: int) -> list[str]:
    """Return the versions of so many certificates as they come."""
    async with client_of(folder / "sds" / "socket") as client:
        stream = client.sotw()
        await stream.send(sotw_request("default", node="sidecar"))
        versions: list[str] = []
        while len(versions) < count:
            told = await stream.told()
            versions.append(told.version)
            await stream.send(sotw_request("default", nonce=told.nonce, version=told.version))
    return versions


def test_short_lives_are_renewed_from_end_to_end(agent: Running, folder: Path) -> None:
    """20 s of life, 2 s of backdate: the server grants it and Envoy gets one after the other."""
    assert len(set(asyncio.run(_versions(folder, 3)))) == 3
    shown = _status(folder)
    life = datetime.fromisoformat(str(shown["not_after"])) - datetime.fromisoformat(
        str(shown["not_before"])
    )
    assert life.total_seconds() == 22
    assert shown["identity"] == "spiffe://cluster.local/ns/bookinfo/sa/productpage"
    assert "productpage" in agent.said


def test_killed_agent_goes_on_where_it_was(
    agent: Running, folder: Path, no_secrets: Secrets
) -> None:
    """SIGKILL leaves a socket behind and the certificate in its files: the next start has both."""
    asyncio.run(until((folder / "certs" / "key.pem").exists))
    agent.stop(signal.SIGKILL)
    assert (folder / "sds" / "socket").exists()
    nobody = AGENT.format(ca="127.0.0.1:9")
    (folder / "agent.yaml").write_text(nobody)
    with running("agent", "run", "--config", "agent.yaml", cwd=folder, secrets=no_secrets) as again:
        again.wait_for("certificate restored from files")
        assert len(asyncio.run(_versions(folder, 1))) == 1
        again.wait_for("no certificate obtained")


def test_agent_ends_in_order(agent: Running, folder: Path) -> None:
    """SIGTERM: sockets are removed, the exit code is 0, and it is quick."""
    started_s = time.monotonic()
    assert agent.stop() == Exit.DONE
    assert time.monotonic() - started_s < 5
    assert not (folder / "sds" / "socket").exists()
    assert "agent stopped" in agent.said


def test_hangup_renews(server: Running, folder: Path, no_secrets: Secrets) -> None:
    """An operator need not wait for half of a life."""
    lasting = AGENT.format(ca=server.address()).replace("lifetime: 20s, ", "")
    (folder / "agent.yaml").write_text(lasting)
    with running("agent", "run", "--config", "agent.yaml", cwd=folder, secrets=no_secrets) as agent:
        agent.wait_for("certificate obtained")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_for("(?s)certificate obtained.*certificate obtained")


def test_second_agent_says_who_is_in_the_way(agent: Running, folder: Path) -> None:
    """It ends with the code for input, in words, and the first goes on."""
    done = command("agent", "run", "--config", "agent.yaml", cwd=folder)
    assert done.returncode == Exit.INPUT
    assert "another process answers at sds/socket; stop it first" in done.stderr
    assert agent.process.poll() is None
    assert _status(folder)["serial"]


def test_probes_and_figures_are_served_where_asked(
    server: Running, folder: Path, no_secrets: Secrets
) -> None:
    """Options for the common case; readiness and metrics on the admin port."""
    ca = ("--ca", server.address(), "--ca-root", ".state/root-cert.pem", "--token-file", "token")
    options = (*ca, "--socket", "socket", "--admin", "127.0.0.1:0")
    with running("agent", "run", *options, cwd=folder, secrets=no_secrets) as agent:
        agent.wait_for("certificate obtained")
        address = agent.wait_for(r'"admin":"([^"]+)"')[1]
        ready = _page("http://" + address + "/healthz/ready")
        figures = _page("http://" + address + "/metrics")
    assert "certificate/default" in ready
    assert 'meshsigner_agent_certificates_obtained_total{workload="default"} 1.0' in figures


def _page(url: str) -> str:
    """Fetch a page."""
    with urlopen(url, timeout=10) as page:  # noqa: S310 - http on loopback
        return str(page.read().decode())
