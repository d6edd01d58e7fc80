"""Starts `meshsigner serve` for test clusters, as a pod outside of them would run.

Each cluster gives it an account with the rights that the documents name, and no others.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.kubernetes.admin import Admin, Refusal
from tests.conformance.kubernetes.cluster import ControlPlane
from tests.conformance.server import (
    Installation,
    RunningServer,
    free_address,
    wait_until_ready,
)

SYSTEM = "meshsigner-system"
ACCOUNT = "meshsigner"
_CONFLICT = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that knows clusters.

    Attributes:
        server: The process.
        folder: Its files.
    """

    server: RunningServer
    folder: Path

    @property
    def roots(self) -> bytes:
        """PEM of the roots, which its serving certificate chains to as well."""
        return (self.folder / "ca" / "root-cert.pem").read_bytes()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """Return the inventory."""
        config = str(self.folder / "meshsigner.yaml")
        text = self.server.installation.call("inventory", "list", "--config", config, "--json")
        rows: Sequence[Mapping[str, Any]] = json.loads(text)
        return rows

    def lines(self, event: str) -> Sequence[Mapping[str, Any]]:
        """Return its log lines of an event."""
        lines = [json.loads(line) for line in self.server.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A cluster as the server is told of it.

    Attributes:
        cluster_id: Its id.
        cluster: The cluster.
        settings: Further settings of its section.
        review: Further settings of its token reviews.
    """

    cluster_id: str
    cluster: ControlPlane
    settings: Mapping[str, Any] = field(default_factory=dict)
    review: Mapping[str, Any] = field(default_factory=dict)


def admit(admin: Admin) -> str:
    """Give the server its account in a cluster and return a token of it."""
    with _there_already():
        admin.create_namespace(SYSTEM)
    with _there_already():
        admin.create_service_account(SYSTEM, ACCOUNT)
    with _there_already():
        pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
        admin.create_cluster_role("meshsigner-nodes", pods)
    for role in ("system:auth-delegator", "meshsigner-nodes"):
        with _there_already():
            admin.bind_cluster_role(role, SYSTEM, ACCOUNT)
    return admin.token(SYSTEM, ACCOUNT, audiences=())


@contextlib.contextmanager
def _there_already() -> Iterator[None]:
    """Let an object be that another test has made."""
    try:
        yield
    except Refusal as refusal:
        if refusal.status != _CONFLICT:
            raise


@contextlib.contextmanager
def served(
    command: Path, folder: Path, *members: Member, sections: Mapping[str, Any] | None = None
) -> Iterator[Served]:
    """Have a server for the length of a block, ready and ended kindly.

    Args:
        command: The `meshsigner` command.
        folder: For its files.
        members: The clusters.
        sections: Further sections of the configuration.
    """
    listen = free_address()
    admin = free_address(besides=listen)
    config = folder / "meshsigner.yaml"
    document = {**_document(folder, listen, admin, members), **(sections or {})}
    config.write_text(json.dumps(document, indent=1))
    log = folder / "meshsigner.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [command, "serve", "--config", os.fspath(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    installation = Installation(command=command, state_dir=folder)
    server = RunningServer(
        installation=installation, listen=listen, admin=admin, process=process, log=log
    )
    wait_until_ready(server)
    try:
        yield Served(server=server, folder=folder)
    finally:
        server.stop()


def _document(
    folder: Path, listen: str, admin: str, members: Sequence[Member]
) -> Mapping[str, Any]:
    return {
        "trust_domain": "cluster.local",
        "clusters": [_section(folder, member) for member in members],
        "issuer": {"type": "self_made", "path": str(folder / "ca")},
        "listen": {
            "address": listen,
            "tls": {
                "type": "issuer",
                "dns_names": ["localhost"],
                "ip_addresses": ["127.0.0.1"],
                "directory": str(folder / "serving"),
            },
        },
        "admin": {"address": admin},
        "inventory": {"path": str(folder / "inventory.db")},
        "workers": 1,
    }


def _section(folder: Path, member: Member) -> Mapping[str, Any]:
    path = folder / f"{member.cluster_id}.kubeconfig"
    kubeconfig = str(member.cluster.kubeconfig(path, token=admit(member.cluster.admin)))
    review = {"type": "token_review", "kubeconfig": kubeconfig, **member.review}
    nodes = {"kubeconfig": kubeconfig, **member.settings.get("node_authorization", {})}
    section = {"id": member.cluster_id, "authenticators": [review], **member.settings}
    if "node_authorization" in section:
        section["node_authorization"] = nodes
    return section
