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

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.kube.connection import BearerToken, Connection, Pem, TlsFiles

MAX_QUOTED = 60  # characters of a foreign key's name
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_REFUSED_CLUSTER_KEYS = {
    "insecure-skip-tls-verify": "give certificate-authority or certificate-authority-data instead",
    "proxy-url": "proxies are not supported",
}
_CLIENT_PAIR = ("client-certificate", "client-key")
_INLINE_CLUSTER_KEYS = frozenset({"server", "certificate-authority-data"})
_INLINE_USER_KEYS = frozenset({"token", "client-certificate-data", "client-key-data"})
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
    reader = _Reader(f"kubeconfig {path}", path.parent, [])
    cluster, user = reader.chosen(reader.document(_read(path)), context)
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
    reader.settle()
    return Connection(
        server=server,
        tls=tls,
        token=token,
        server_name=cluster.get("tls-server-name"),
    )


def load_inline_kubeconfig(data: bytes, where: str) -> Connection:
    """Read a kubeconfig that somebody else put where we read it, such as a Secret.

    Who wrote it must not have this process read files, start programs, talk to
    others than the named server, or believe a server without its CA. So it may
    hold an https server, its CA inline, and a token or an inline client
    certificate; everything else is refused by name.

    Args:
        data: Its text.
        where: What problems call it.

    Raises:
        ConfigurationError: Not a kubeconfig, or one that holds anything else.
    """
    reader = _Reader(where, Path("/nonexistent"), [])
    cluster, user = reader.chosen(reader.document(data), None)
    reader.allow_only(cluster, "cluster", _INLINE_CLUSTER_KEYS)
    reader.allow_only(user, "user", _INLINE_USER_KEYS)
    server = reader.server(cluster)
    ca = reader.pem(cluster, "certificate-authority")
    certificate, key = (reader.pem(user, name) for name in _CLIENT_PAIR)
    token = reader.token(user)
    reader.check_pair(user)
    if not ca:
        reader.problem("no certificate-authority-data: the server's CA must be in it")
    if token is None and certificate is None:
        reader.problem("neither token nor client-certificate-data: it proves nobody")
    reader.settle()
    connection = Connection(
        server=server, tls=TlsFiles(ca=ca, certificate=certificate, key=key), token=token
    )
    _check_inline(connection, where)
    return connection


def _check_inline(connection: Connection, where: str) -> None:
    """Refuse PEM that is none and a token that no header could carry, before it is used."""
    try:
        connection.tls.context()
    except BackendUnavailable as error:
        raise ConfigurationError(f"{where}: {error}") from None
    if connection.token is not None and not connection.token.is_sendable():
        raise ConfigurationError(f"{where}: token is no text of visible characters")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"kubeconfig {path}: {type(error).__name__}, expected a readable YAML file",
        ) from None


def _and(names: frozenset[str]) -> str:
    return " and ".join(sorted(names))


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
        where: What problems call it.
        folder: Where relative paths in it start.
        problems: Sentences so far.
    """

    where: str
    folder: Path
    problems: list[str]

    def document(self, data: bytes) -> Mapping[str, Any]:
        try:
            document = yaml.safe_load(data)
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            # YAML's own text quotes lines, and those may hold a token
            raise ConfigurationError(
                f"{self.where}: {type(error).__name__}, expected a readable YAML file",
            ) from None
        if not isinstance(document, dict):
            raise ConfigurationError(f"{self.where}: not a mapping")
        return document

    def chosen(
        self, document: Mapping[str, Any], context: str | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return cluster and user of a context."""
        pair = self.named(document, "context", context or document.get("current-context"))
        cluster = self.named(document, "cluster", pair.get("cluster"))
        return cluster, self.named(document, "user", pair.get("user"))

    def allow_only(self, entry: Mapping[str, Any], kind: str, allowed: frozenset[str]) -> None:
        for key in sorted(map(str, entry.keys() - allowed)):
            if entry.get(key):
                self.problem(f"{kind} sets {key[:MAX_QUOTED]!a}: only {_and(allowed)} may be there")

    def settle(self) -> None:
        if self.problems:
            raise ConfigurationError(*self.problems)

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
        return self.folder / str(file)

    def token(self, user: Mapping[str, Any]) -> BearerToken | None:
        token, file = user.get("token"), user.get("tokenFile")
        if file is not None:  # wins over `token`, as in client-go
            return BearerToken(self.folder / str(file))
        return BearerToken(str(token)) if token is not None else None

    def check_pair(self, user: Mapping[str, Any]) -> None:
        given = [any(k in user for k in (key, f"{key}-data")) for key in _CLIENT_PAIR]
        if given[0] != given[1]:
            self.problem("user has one of client-certificate and client-key, both are needed")

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.where}: {text}")
