"""`meshsigner serve`: a production server's start, reload and end."""

import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.dev_tokens import ISSUER
from meshsigner.cli.exits import Exit
from tests.secret_scan import Secrets
from tests.wire.processes import Running, command, invoke, running

CONFIG = f"""\
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
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with a CA, a token issuer, a token and a configuration."""
    DevState(tmp_path / ".state").prepare(datetime.now(UTC))
    (tmp_path / "meshsigner.yaml").write_text(CONFIG)
    who = ("--namespace", "shop", "--service-account", "cart")
    (tmp_path / "token").write_text(invoke("dev", "token", *who, cwd=tmp_path).stdout)
    return tmp_path


@pytest.fixture
def server(folder: Path, no_secrets: Secrets) -> Iterator[Running]:
    """Return a server that is ready."""
    with running("serve", "--config", "meshsigner.yaml", cwd=folder, secrets=no_secrets) as server:
        server.address()
        yield server


def _lifetime_s(server: Running) -> float:
    """Ask for a certificate and return how long it is valid."""
    where = ("--server", server.address(), "--root", ".state/root-cert.pem")
    options = ("--token-file", "token", "--key-type", "p256", "--json")
    done = invoke("request", *where, *options, cwd=server.directory)
    assert done.exit_code == 0, done.stderr
    shown = json.loads(done.stdout)
    start, end = (datetime.fromisoformat(shown[name]) for name in ("not_before", "not_after"))
    return (end - start).total_seconds()


def test_hangup_takes_the_policy_anew(server: Running) -> None:
    """After SIGHUP the new rules hold, and what needs a restart is named."""
    assert _lifetime_s(server) == 24 * 3600 + 120
    changed = CONFIG.replace('admin: {address: "127.0.0.1:0"}', "admin: {address: localhost:0}")
    lifetimes = "policy: {maximum_lifetime: 1h, default_lifetime: 1h}\n"
    (server.directory / "meshsigner.yaml").write_text(changed + lifetimes)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(r'"need_restart":\["admin"\],"event":"settings reloaded"')
    server.wait_for(r'"event":"settings reloaded"[^\n]*"worker":0')
    assert _lifetime_s(server) == 3600 + 120


def test_hangup_takes_the_logging_level_anew(server: Running) -> None:
    """After SIGHUP at level warning, calls that went well leave no line."""
    _lifetime_s(server)
    server.wait_for('"event":"create certificate"')
    (server.directory / "meshsigner.yaml").write_text(CONFIG + "logging: {level: warning}\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("settings reloaded")
    calls = server.said.count('"event":"create certificate"')
    _lifetime_s(server)
    assert server.said.count('"event":"create certificate"') == calls == 1


def test_hangup_with_a_wrong_configuration_changes_nothing(server: Running) -> None:
    """A bad file is refused as a whole and logged; the server goes on as before."""
    (server.directory / "meshsigner.yaml").write_text(CONFIG + "policy: {backdate: 9h}\n")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("policy.backdate .*new settings refused")
    assert _lifetime_s(server) == 24 * 3600 + 120


def test_serve_has_no_development_issuer(server: Running) -> None:
    """Only what the configuration names is made or believed."""
    assert sorted(path.name for path in server.directory.iterdir() if path.is_dir()) == [
        ".state",
        "serving",
    ]
    assert "development" not in server.said.lower()


def test_all_that_keeps_it_from_starting_is_told_at_once(folder: Path) -> None:
    """CA, clusters, inventory: each problem is a line, and nothing is served."""
    broken = (
        CONFIG.replace(".state/ca", "no-ca")
        .replace("inventory.db", "no/inventory.db")
        .replace("authenticators: [{", "authenticators: [{type: token_review}, {")
    )
    (folder / "meshsigner.yaml").write_text(broken)
    done = command("serve", "--config", "meshsigner.yaml", cwd=folder)
    assert done.returncode == Exit.INPUT
    for words in ("no-ca: ", "cluster Kubernetes, token_review: ", "no/inventory-0.db"):
        assert words in done.stderr


def test_wrong_configuration_is_refused_before_anything_is_opened(folder: Path) -> None:
    """A configuration that check-config refuses is refused here in the same words."""
    (folder / "meshsigner.yaml").write_text(CONFIG + "color: blue\n")
    served = command("serve", "--config", "meshsigner.yaml", cwd=folder)
    checked = invoke("check-config", "meshsigner.yaml", cwd=folder)
    assert served.returncode == checked.exit_code == Exit.INPUT
    assert "color (meshsigner.yaml line " in served.stderr
    assert "color (meshsigner.yaml line " in checked.stderr
    assert not (folder / "inventory.db").exists()
