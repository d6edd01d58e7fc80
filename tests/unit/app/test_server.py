"""A server's parts start together, or not at all."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshsigner.app.server import Server
from meshsigner.config import Config, parse_config
from meshsigner.errors import ConfigurationError

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that reads a configuration on free ports, with changed sections."""

    def load(**changes: object) -> Config:
        (tmp_path / "jwks.json").write_text("{}")
        keys = {"type": "jwks", "issuer": "https://a", "jwks_file": str(tmp_path / "jwks.json")}
        serving = {
            "type": "issuer",
            "dns_names": ["localhost"],
            "directory": str(tmp_path / "serving"),
        }
        values: dict[str, Any] = {
            "trust_domain": "cluster.local",
            "clusters": [{"id": "a", "authenticators": [keys]}],
            "issuer": {"type": "self_made", "path": str(tmp_path / "ca")},
            "listen": {"address": "127.0.0.1:0", "tls": serving},
            "admin": {"address": "127.0.0.1:0"},
            "inventory": {"path": str(tmp_path / "inventory.db")},
        }
        for name, change in changes.items():
            values[name] = {**values[name], **change} if isinstance(change, dict) else change
        return parse_config(yaml.safe_dump(values))

    return load


@pytest.fixture
def taken() -> Iterator[str]:
    """Return an address where somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_server_says_that_it_is_not_ready(
    load: Load, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server without token keys serves, and its start says what is missing."""
    server = Server(load())
    await server.start()
    await server.stop()
    said = capfd.readouterr().err
    assert '"event":"not ready"' in said
    assert "authn/a/jwks" in said


async def test_both_ports_are_told_and_nothing_is_left_running(load: Load, taken: str) -> None:
    """Ports that are taken are told together; afterwards the same state can be used at once."""
    with pytest.raises(ConfigurationError) as caught:
        await Server(load(listen={"address": taken}, admin={"address": taken})).start()
    assert len(caught.value.problems) == 2
    server = Server(load())
    await server.start()
    await server.stop()


async def test_port_of_the_wire_is_free_when_the_admin_port_is_not(load: Load, taken: str) -> None:
    """A start that fails at one port gives the other one back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ConfigurationError, match="probes and metrics"):
        await Server(load(listen={"address": free}, admin={"address": taken})).start()
    with socket.socket() as again:
        host, _, port = free.partition(":")
        again.bind((host, int(port)))


async def test_files_that_tls_needs_are_told_beside_the_rest(load: Load, tmp_path: Path) -> None:
    """A missing serving certificate and a missing CA are told at once."""
    files = {
        "type": "files",
        "certificate": str(tmp_path / "no.crt"),
        "key": str(tmp_path / "no.key"),
    }
    config = load(issuer={"type": "directory", "path": str(tmp_path / "no-ca")})
    listen = config.listen.model_dump(mode="json") | {"tls": files}
    changed = parse_config(yaml.safe_dump({**config.model_dump(mode="json"), "listen": listen}))
    with pytest.raises(ConfigurationError) as caught:
        await Server(changed).start()
    assert "no-ca" in str(caught.value)
    assert "no.crt" in str(caught.value)
