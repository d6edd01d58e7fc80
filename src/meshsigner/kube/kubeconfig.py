"""Where an API server is: from the pod's own surroundings or from a kubeconfig.

Decides which kubeconfig can be used. What would lower the checks of the server
or start other programs is refused by name.

Source: Kubernetes client-go rest.InClusterConfig, clientcmd/api/v1/types.go.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from meshsigner.errors import ConfigurationError
from meshsigner.kube.connection import BearerToken, Connection, Pem, TlsFiles

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_REFUSED_CLUSTER_KEYS = {
    "insecure-skip-tls-verify": "give certificate-authority or certificate-authority-data instead",
    "proxy-url": "proxies are not supported",
}
_CLIENT_PAIR = ("client-certificate", "client-key")
_REFUSED_USER_KEYS = {
    "exec": "other programs are not started: give a token, tokenFile or client certificate",
    "auth-provider": "give a token, tokenFile or client certificate instead",
    "username": "give a token, tokenFile or client certificate instead of a password",
    "password": "give a token, tokenFile or client certificate instead of a password",
    "as": "acting as another user is not supported",
}


def in_cluster(
    environment: Mapping[str, str],
    directory: Path = SERVICE_ACCOUNT,
) -> Connection:
    """Find the API server of the cluster in which this process is a pod.

    Args:
        environment: The process's environment.
        directory: Where the kubelet keeps token and roots of the service account.

    Raises:
        ConfigurationError: This is no pod, or its token is not mounted.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT")
    token, roots = directory / "token", directory / "ca.crt"
    problems = []
    if not host or not port:
        problems.append(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: outside a "
            "cluster, give a kubeconfig",
        )
    problems += [
        f"{path} is missing: mount the service account's token (automountServiceAccountToken)"
        for path in (token, roots)
        if not path.is_file()
    ]
    if problems:
        raise ConfigurationError(*problems)
    where = f"[{host}]" if ":" in str(host) else host
    return Connection(
        server=f"https://{where}:{port}",
        tls=TlsFiles(ca=roots),
        token=BearerToken(token),
    )


def load_kubeconfig(path: Path, context: str | None = None) -> Connection:
    """Read how to reach an API server.

    Args:
        path: The kubeconfig; relative paths in it start at its directory.
        context: Which context; None takes `current-context`.

    Raises:
        ConfigurationError: Not a kubeconfig, or one that asks for what is refused.
    """
    reader = _Reader(path, [])
    document = reader.document()
    chosen = reader.named(document, "context", context or document.get("current-context"))
    cluster = reader.named(document, "cluster", chosen.get("cluster"))
    user = reader.named(document, "user", chosen.get("user"))
    reader.refuse(cluster, "cluster", _REFUSED_CLUSTER_KEYS)
    reader.refuse(user, "user", _REFUSED_USER_KEYS)
    server = reader.server(cluster)
    tls = TlsFiles(
        ca=reader.pem(cluster, "certificate-authority"),
        certificate=reader.pem(user, "client-certificate"),
        key=reader.pem(user, "client-key"),
    )
    token = reader.token(user)
    reader.check_pair(user)
    if reader.problems:
        raise ConfigurationError(*reader.problems)
    return Connection(
        server=server,
        tls=tls,
        token=token,
        server_name=cluster.get("tls-server-name"),
    )


def _is_https(url: str) -> bool:
    try:
        parts, _ = urlsplit(url), urlsplit(url).port
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads parts of one kubeconfig and gathers what is wrong with it.

    Attributes:
        path: The file.
        problems: Sentences so far.
    """

    path: Path
    problems: list[str]

    def document(self) -> Mapping[str, Any]:
        try:
            document = yaml.safe_load(self.path.read_bytes())
        except (OSError, yaml.YAMLError) as error:
            # YAML's own text quotes lines, and those may hold a token
            raise ConfigurationError(
                f"kubeconfig {self.path}: {type(error).__name__}, expected a readable YAML file",
            ) from None
        if not isinstance(document, dict):
            raise ConfigurationError(f"kubeconfig {self.path}: not a mapping")
        return document

    def named(self, document: Mapping[str, Any], kind: str, name: object) -> Mapping[str, Any]:
        entries = document.get(f"{kind}s")
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and name is not None and entry.get("name") == name:
                body = entry.get(kind)
                if isinstance(body, dict):
                    return body
        self.problem(f"no {kind} named {name!r}")
        return {}

    def refuse(self, entry: Mapping[str, Any], kind: str, refused: Mapping[str, str]) -> None:
        for key, advice in refused.items():
            if entry.get(key):
                self.problem(f"{kind} sets {key}: {advice}")

    def server(self, cluster: Mapping[str, Any]) -> str:
        server = cluster.get("server")
        if not isinstance(server, str) or not _is_https(server):
            self.problem("server is not an https URL")
        return str(server).rstrip("/")

    def pem(self, entry: Mapping[str, Any], key: str) -> Pem | None:
        inline, file = entry.get(f"{key}-data"), entry.get(key)
        if inline:
            try:
                return base64.b64decode(str(inline), validate=True)
            except binascii.Error:
                self.problem(f"{key}-data is not base64")
        if file is None:
            return None
        return self.path.parent / str(file)

    def token(self, user: Mapping[str, Any]) -> BearerToken | None:
        token, file = user.get("token"), user.get("tokenFile")
        if file is not None:  # wins over `token`, as in client-go
            return BearerToken(self.path.parent / str(file))
        return BearerToken(str(token)) if token is not None else None

    def check_pair(self, user: Mapping[str, Any]) -> None:
        given = [any(k in user for k in (key, f"{key}-data")) for key in _CLIENT_PAIR]
        if given[0] != given[1]:
            self.problem("user has one of client-certificate and client-key, both are needed")

    def problem(self, text: str) -> None:
        self.problems.append(f"kubeconfig {self.path}: {text}")
