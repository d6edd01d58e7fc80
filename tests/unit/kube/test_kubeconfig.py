"""Which surroundings and kubeconfigs lead to an API server, and which are refused."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from structlog.testing import capture_logs

from meshsigner.errors import ConfigurationError
from meshsigner.kube import (
    KubeconfigFile,
    in_cluster,
    load_inline_kubeconfig,
    load_kubeconfig,
)
from tests.fakes.serving_tls import TestRoots

ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
ROOTS = TestRoots()


def mount(directory: Path) -> Path:
    """Write what the kubelet mounts."""
    (directory / "token").write_text("reviewer\n")
    (directory / "ca.crt").write_bytes(ROOTS.pem)
    return directory


def write(
    directory: Path,
    cluster: dict[str, Any] | None = None,
    user: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a kubeconfig; by default a good one with a token."""
    (directory / "ca.crt").write_bytes(ROOTS.pem)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [
            {"name": "other", "context": {"cluster": "nowhere", "user": "nobody"}},
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": "https://127.0.0.1:6443",
                    "certificate-authority": "ca.crt",
                    **(cluster or {}),
                },
            },
        ],
        "users": [{"name": "u", "user": {"token": "reviewer"} if user is None else user}],
        **changes,
    }
    path = directory / "config"
    path.write_text(yaml.safe_dump(document))
    return path


def problems(path: Path, context: str | None = None) -> str:
    """Return what is wrong with a kubeconfig."""
    with pytest.raises(ConfigurationError) as caught:
        load_kubeconfig(path, context)
    assert all(str(path) in problem for problem in caught.value.problems)
    return str(caught.value)


def test_a_pod_finds_its_own_api_server(tmp_path: Path) -> None:
    """Host and port come from the environment, token and roots from the mount."""
    connection = in_cluster(ENVIRONMENT, mount(tmp_path))
    assert connection.server == "https://10.0.0.1:443"
    assert connection.tls.context().get_ca_certs()


def test_an_ipv6_address_stands_in_brackets(tmp_path: Path) -> None:
    """A single-stack IPv6 cluster works too."""
    environment = {**ENVIRONMENT, "KUBERNETES_SERVICE_HOST": "fd00::1"}
    assert in_cluster(environment, mount(tmp_path)).server == "https://[fd00::1]:443"


def test_outside_of_a_pod_everything_missing_is_told(tmp_path: Path) -> None:
    """Environment, token and roots: one sentence each, all at once."""
    with pytest.raises(ConfigurationError) as caught:
        in_cluster({}, tmp_path)
    assert len(caught.value.problems) == 3
    assert "give a kubeconfig" in caught.value.problems[0]
    assert "automountServiceAccountToken" in caught.value.problems[1]


async def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    """Server, roots and token of the current context; a slash at the end is cut off."""
    path = write(tmp_path, cluster={"server": "https://127.0.0.1:6443/", "tls-server-name": "k"})
    connection = load_kubeconfig(path)
    assert (connection.server, connection.server_name) == ("https://127.0.0.1:6443", "k")
    assert connection.token is not None
    assert connection.token.current() == "reviewer"
    assert connection.tls.context().get_ca_certs()


async def test_a_token_file_wins_over_a_token(tmp_path: Path) -> None:
    """As in client-go; relative paths start at the kubeconfig."""
    (tmp_path / "token").write_text("from-file")
    path = write(tmp_path, user={"token": "inline", "tokenFile": "token"})
    token = load_kubeconfig(path).token
    assert token is not None
    assert token.current() == "from-file"


def test_inline_roots_and_client_certificate(tmp_path: Path) -> None:
    """Base64 PEM inside of the kubeconfig, as kind and kubeadm write it."""
    identity = ROOTS.issue("client")
    path = write(
        tmp_path,
        cluster={
            "certificate-authority": None,
            "certificate-authority-data": base64.b64encode(ROOTS.pem).decode(),
        },
        user={
            "client-certificate-data": base64.b64encode(identity.certificate).decode(),
            "client-key-data": base64.b64encode(identity.key).decode(),
        },
    )
    connection = load_kubeconfig(path)
    assert connection.token is None
    assert len(connection.tls.context().get_ca_certs()) == 1


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    """The name says which; one that is not there is told."""
    changes: dict[str, Any] = {"current-context": "other"}
    path = write(tmp_path, **changes)
    assert load_kubeconfig(path, "one").server == "https://127.0.0.1:6443"
    assert "no context named 'x'" in problems(path, "x")
    assert "no cluster named 'nowhere'" in problems(path)


@pytest.mark.parametrize(
    ("cluster", "user", "problem"),
    [
        ({"insecure-skip-tls-verify": True}, None, "sets insecure-skip-tls-verify"),
        ({"proxy-url": "http://proxy"}, None, "sets proxy-url"),
        ({"server": "http://127.0.0.1:8080"}, None, "server is not an https URL"),
        ({"server": None}, None, "server is not an https URL"),
        ({"server": "https://user:secret@host"}, None, "server is not an https URL"),
        ({"server": "https://"}, None, "server is not an https URL"),
        ({"server": "https://[::1"}, None, "server is not an https URL"),
        ({"server": "https://host:port"}, None, "server is not an https URL"),
        ({"certificate-authority-data": "%%"}, None, "certificate-authority-data is not base64"),
        ({}, {"exec": {"command": "aws"}}, "sets exec"),
        ({}, {"auth-provider": {"name": "gcp"}}, "sets auth-provider"),
        ({}, {"username": "a", "password": "hunter2"}, "sets password"),
        ({}, {"as": "admin"}, "sets as"),
        ({}, {"client-certificate": "x"}, "both are needed"),
        ({}, {"client-key-data": "eA=="}, "both are needed"),
    ],
)
def test_what_is_not_supported_or_not_safe_is_refused_by_name(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any] | None, problem: str
) -> None:
    """Unverified servers, other programs, passwords and half pairs are configuration errors."""
    text = problems(write(tmp_path, cluster=cluster, user=user))
    assert problem in text
    assert "hunter2" not in text
    assert "secret" not in text


def test_insecure_skip_tls_verify_that_is_off_is_accepted(tmp_path: Path) -> None:
    """Only what is switched on is refused."""
    path = write(tmp_path, cluster={"insecure-skip-tls-verify": False})
    assert load_kubeconfig(path).server == "https://127.0.0.1:6443"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Cluster and user are both looked at before anything is refused."""
    path = write(
        tmp_path, cluster={"server": "x", "proxy-url": "y"}, user={"exec": {"command": "z"}}
    )
    with pytest.raises(ConfigurationError) as caught:
        load_kubeconfig(path)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    "content", ["[]", "text", "a: [", "token: !!python/object:os.system x", "clusters: 1"]
)
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, content: str) -> None:
    """Other YAML, broken YAML and YAML that would run code are refused, unquoted."""
    path = tmp_path / "config"
    path.write_text(content)
    assert content not in problems(path)
    path.unlink()
    assert "FileNotFoundError" in problems(path)


def inline(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> bytes:
    """Return a kubeconfig as `istioctl create-remote-secret` writes it."""
    roots = base64.b64encode(ROOTS.pem).decode()
    server = {"server": "https://two.example:6443", "certificate-authority-data": roots}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "two", "cluster": {**server, **(cluster or {})}}],
        "users": [{"name": "two", "user": {"token": "reader"} if user is None else user}],
        "contexts": [{"name": "two", "context": {"cluster": "two", "user": "two"}}],
        "current-context": "two",
    }
    return yaml.safe_dump(document).encode()


def test_a_kubeconfig_from_a_secret_may_hold_what_it_needs() -> None:
    """An https server, its CA, and a token or a client certificate, all inline."""
    connection = load_inline_kubeconfig(inline(), "Secret x")
    assert connection.server == "https://two.example:6443"
    assert len(connection.tls.context().get_ca_certs()) == 1
    assert connection.token is not None
    identity = ROOTS.issue("client")
    pair = {
        "client-certificate-data": base64.b64encode(identity.certificate).decode(),
        "client-key-data": base64.b64encode(identity.key).decode(),
    }
    assert load_inline_kubeconfig(inline(user=pair), "Secret x").token is None


@pytest.mark.parametrize(
    ("cluster", "user", "problem"),
    [
        ({"server": "http://two.example"}, None, "server is not an https URL"),
        ({"server": "https://a:b@two.example"}, None, "server is not an https URL"),
        ({"insecure-skip-tls-verify": True}, None, "sets 'insecure-skip-tls-verify'"),
        ({"proxy-url": "http://proxy"}, None, "sets 'proxy-url'"),
        ({"certificate-authority": "/etc/passwd"}, None, "sets 'certificate-authority'"),
        ({"tls-server-name": "other"}, None, "sets 'tls-server-name'"),
        ({"certificate-authority-data": None}, None, "the server's CA must be in it"),
        ({"certificate-authority-data": "!"}, None, "is not base64"),
        ({"certificate-authority-data": "AAAA"}, None, "TLS files"),
        (None, {}, "neither token nor client-certificate-data"),
        (None, {"exec": {"command": "sh"}}, "sets 'exec'"),
        (None, {"auth-provider": {"name": "gcp"}}, "sets 'auth-provider'"),
        (None, {"token": "a", "tokenFile": "/var/run/token"}, "sets 'tokenFile'"),
        (None, {"client-certificate": "/x", "client-key": "/y"}, "sets 'client-certificate'"),
        (None, {"username": "a", "password": "b"}, "sets 'password'"),
        (None, {"token": "a", "as": "admin"}, "sets 'as'"),
        (None, {"token": "a", "as-groups": ["system:masters"]}, "sets 'as-groups'"),
        (None, {"token": "a b"}, "no text of visible characters"),
        (None, {"token": "a\r\nHost: x"}, "no text of visible characters"),
        (None, {"client-certificate-data": "AAAA"}, "both are needed"),
    ],
)
def test_a_kubeconfig_from_a_secret_may_hold_nothing_else(
    cluster: dict[str, Any] | None, user: dict[str, Any] | None, problem: str
) -> None:
    """Whoever wrote it must not have us read files, start programs or trust strangers."""
    with pytest.raises(ConfigurationError, match=re.escape(problem)) as caught:
        load_inline_kubeconfig(inline(cluster, user), "Secret x")
    assert all(text.startswith("Secret x: ") for text in caught.value.problems)


@pytest.mark.parametrize("data", [b"", b"\x00", b"[1]", b"a: b: c", b"\xff", b"&a [*a]", b"["])
def test_what_is_no_kubeconfig_is_refused(data: bytes) -> None:
    """Bytes from a Secret may be anything."""
    with pytest.raises(ConfigurationError, match="Secret x"):
        load_inline_kubeconfig(data, "Secret x")


async def test_a_kubeconfig_is_followed(tmp_path: Path) -> None:
    """A changed file leads elsewhere from the next request on; a bad one is told once."""
    path = write(tmp_path)
    file = KubeconfigFile(path)
    assert file.current() is file.current()
    with capture_logs() as lines:
        write(tmp_path, cluster={"server": "https://elsewhere.example"}, user={"token": "new"})
        connection = file.current()
        assert connection.server == "https://elsewhere.example"
        assert connection.token is not None
        assert connection.token.current() == "new"
        path.write_text("no kubeconfig")
        for _ in range(3):
            assert file.current() is connection
        path.unlink()
        assert file.current() is connection
        write(tmp_path)
        assert file.current().server == "https://127.0.0.1:6443"
    kept = "new kubeconfig refused, the one in use is kept"
    assert [line["event"] for line in lines] == [
        "kubeconfig taken",
        kept,
        kept,
        "kubeconfig taken",
    ]
    assert "new" not in [str(line) for line in lines]
