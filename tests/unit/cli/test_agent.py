"""`meshsigner agent`: options, settings, what a status looks like."""

import grp
import json
import os
import pwd
import socket
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshsigner.agent.keys import KeyType
from meshsigner.agent.settings import WorkloadSettings
from meshsigner.cli import app
from meshsigner.cli.agent_parts import settings_of, status_socket_of
from meshsigner.cli.agent_status import render_status
from meshsigner.cli.exits import Exit
from meshsigner.config.agent import AgentConfig, build_agent_config
from meshsigner.errors import ConfigurationError
from tests.fakes.tokens import make_token

IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name


def _invoke(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, list(map(str, arguments)))


def _config(**values: object) -> AgentConfig:
    workload = {"identity": IDENTITY, "socket": "/run/sds/socket"}
    ca = {"address": "localhost:15012"}
    return build_agent_config({"ca": ca, "workloads": [workload], **values}, name="test.yaml")


def _workload(**values: object) -> WorkloadSettings:
    (workload,) = settings_of(_config(workloads=[{"identity": IDENTITY, **values}])).workloads
    return workload


def test_settings_are_the_configurations() -> None:
    """Every section reaches the agent."""
    settings = settings_of(
        _config(
            ca={"address": "h:1", "server_name": "n", "cert_signer": "s", "headers": {"x": "y"}},
            renewal={"grace_ratio": 0.4, "longest_retry": "5s", "spread": "1s"},
            private_key_provider={"type": "qat", "fallback": True},
        )
    )
    assert (settings.ca.name, settings.ca.cert_signer) == ("n", "s")
    assert settings.ca.headers == (("x", "y"),)
    assert settings.timing.grace_ratio == 0.4
    assert settings.timing.last_retry.total_seconds() == 5
    assert settings.key_provider is not None
    assert (settings.key_provider.name, settings.key_provider.fallback) == ("qat", True)
    assert settings.shared is None
    assert settings.status_socket == Path("/run/sds/socket.status")


def test_defaults_send_what_istios_agent_sends() -> None:
    """No name, no signer, no provider."""
    settings = settings_of(_config())
    assert (settings.ca.name, settings.ca.cert_signer, settings.key_provider) == ("", "", None)


def test_only_workload_has_istios_socket() -> None:
    """Where istio-agent looks for it."""
    assert str(_workload().socket) == "/var/run/secrets/workload-spiffe-uds/socket"


def test_names_of_users_and_groups_are_looked_up() -> None:
    """Names and numbers mean the same."""
    named = _workload(socket="/run/a/s", group=MY_GROUP)
    assert named.group == os.getegid()
    shared = settings_of(
        _config(
            workloads=[{"identity": IDENTITY, "user": ME, "user_group": str(os.getegid())}],
            shared_socket={"path": "/run/sds"},
        )
    )
    assert (shared.workloads[0].uid, shared.workloads[0].gid) == (os.geteuid(), os.getegid())
    assert shared.workloads[0].socket is None
    assert shared.status_socket == Path("/run/sds.status")


def test_what_the_machine_does_not_know_is_told_at_once() -> None:
    """User, group and identity, each with its workload."""
    config = _config(
        workloads=[
            {"name": "a", "token_file": "/missing", "user": "nobody-of-this-name"},
            {"name": "b", "identity": IDENTITY, "socket": "/x/s", "group": "no-such-group"},
        ],
        shared_socket={"path": "/run/sds"},
    )
    with pytest.raises(ConfigurationError) as caught:
        settings_of(config)
    identity, user, group = caught.value.problems
    assert identity.startswith("workload a: no identity is set and none can be taken from its")
    assert user.startswith("workload a: this machine has no user nobody-of-this-name")
    assert group.startswith("workload b: this machine has no group no-such-group")


def test_identity_comes_from_the_token(tmp_path: Path) -> None:
    """A pod need not be told who it is."""
    token = make_token(sub="system:serviceaccount:bookinfo:productpage")
    (tmp_path / "token").write_text(token)
    config = _config(workloads=[{"token_file": str(tmp_path / "token")}], trust_domain="mesh.test")
    (workload,) = settings_of(config).workloads
    assert str(workload.identity) == "spiffe://mesh.test/ns/bookinfo/sa/productpage"


def test_status_socket_can_be_said() -> None:
    """A path of its own, for who keeps such things elsewhere."""
    assert status_socket_of(_config(status_socket="/run/x")) == Path("/run/x")


@pytest.mark.parametrize("options", [(), ("--config", "a.yaml", "--ca", "localhost:1")])
def test_file_or_options_not_both_and_not_neither(options: tuple[str, ...]) -> None:
    """What would be ignored is refused."""
    done = _invoke("agent", "run", *options)
    assert done.exit_code == Exit.USAGE
    assert "give one of the two" in done.output


def test_wrong_options_are_told_like_a_wrong_file() -> None:
    """All of them at once, with what was expected."""
    done = _invoke("agent", "run", "--ca", "nowhere", "--identity", "me")
    assert done.exit_code == Exit.INPUT
    assert "ca.address (options): found 'nowhere'; expected host:port" in done.output
    assert "workloads[0].identity (options): found 'me'" in done.output


def test_wrong_file_is_told(tmp_path: Path) -> None:
    """With its name."""
    (tmp_path / "agent.yaml").write_text("ca: {}\n")
    done = _invoke("agent", "run", "--config", tmp_path / "agent.yaml")
    assert done.exit_code == Exit.INPUT
    assert "ca.address (agent.yaml line 1): not set" in done.output


def test_configuration_can_be_checked_beforehand(tmp_path: Path) -> None:
    """`check-config --agent` prints what is in effect."""
    (tmp_path / "agent.yaml").write_text("ca: {address: 'localhost:15012'}\n")
    done = _invoke("check-config", "--agent", tmp_path / "agent.yaml")
    assert done.exit_code == Exit.DONE
    assert "grace_ratio: 0.5" in done.output


def test_page_can_be_printed() -> None:
    """`config-reference --agent` is how docs/agent-config.md is made."""
    assert "# Configuration of the agent" in _invoke("config-reference", "--agent").output


WORKLOAD = {
    "name": "default",
    "identity": IDENTITY,
    "socket": "/run/sds/socket",
    "serial": "abc",
    "not_before": "2026-11-24T12:00:00+00:00",
    "not_after": "2026-11-25T12:00:00+00:00",
    "next_renewal": "2026-11-25T00:00:00+00:00",
    "last_failure": "",
    "secrets": [
        {"name": "default", "version": "0123456789abcdef", "subscribers": 2},
        {"name": "ROOTCA", "version": None, "subscribers": 0},
    ],
}


def test_status_is_told_in_words() -> None:
    """One block a workload, one line a secret."""
    text = render_status({"workloads": [WORKLOAD, {**WORKLOAD, "last_failure": "UNAVAILABLE"}]})
    assert f"default: {IDENTITY}" in text
    assert "  default  0123456789abcdef  2" in text
    assert "  ROOTCA   -                 0" in text
    assert text.count("last failure") == 1


def _answering(path: Path, answer: bytes) -> None:
    """Answer once on a socket, in a thread."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        connection.sendall(answer)
        connection.close()
        listener.close()

    threading.Thread(target=serve).start()


def test_status_is_asked_and_shown(tmp_path: Path) -> None:
    """For people and for programs."""
    path = tmp_path / "status"
    _answering(path, json.dumps({"workloads": [WORKLOAD]}).encode())
    assert IDENTITY in _invoke("agent", "status", "--socket", path).output
    path.unlink()
    _answering(path, json.dumps({"workloads": [WORKLOAD]}).encode())
    shown = _invoke("agent", "status", "--socket", path, "--json").output
    assert json.loads(shown)["workloads"][0]["serial"] == "abc"


def test_status_of_the_configured_socket(tmp_path: Path) -> None:
    """The file says where to ask."""
    path = tmp_path / "status"
    _answering(path, json.dumps({"workloads": [WORKLOAD]}).encode())
    (tmp_path / "agent.yaml").write_text(f"ca: {{address: 'h:1'}}\nstatus_socket: {path}\n")
    assert IDENTITY in _invoke("agent", "status", "--config", tmp_path / "agent.yaml").output


def test_nobody_to_ask_is_told(tmp_path: Path) -> None:
    """Path, reason and what to do; the exit code says: try again."""
    done = _invoke("agent", "status", "--socket", tmp_path / "missing")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "No such file or directory" in done.output


def test_something_else_at_the_socket_is_told(tmp_path: Path) -> None:
    """It is no agent that answers there."""
    _answering(tmp_path / "status", b"220 smtp")
    done = _invoke("agent", "status", "--socket", tmp_path / "status")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "what answers is no agent" in done.output


def test_status_of_a_wrong_file_is_told(tmp_path: Path) -> None:
    """The problem is the file's, not the agent's."""
    (tmp_path / "agent.yaml").write_text("{}")
    done = _invoke("agent", "status", "--config", tmp_path / "agent.yaml")
    assert done.exit_code == Exit.INPUT


def test_kinds_of_keys_are_the_same_everywhere() -> None:
    """Configuration and options know the kinds that the agent can make."""
    for kind in KeyType:
        assert _workload(key_type=kind.value).key_type is kind
