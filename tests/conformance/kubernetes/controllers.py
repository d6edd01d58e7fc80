"""Processes that keep the cluster's objects, as operators start them, for the tests."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from meshsigner.signing.self_made import SelfMadeCa
from meshsigner.spiffe import TrustDomain
from tests.conformance.kubernetes.admin import RBAC
from tests.conformance.kubernetes.cluster import ControlPlane

PATIENCE_S = 30.0
NAMESPACE = "meshsigner"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
DURATION_S = 9.0  # of the lease, the default


def make_ca(directory: Path) -> Path:
    """Make a CA as the server does."""
    SelfMadeCa(directory=directory, trust_domain=TrustDomain.parse("cluster.local")).ensure(
        datetime.now(UTC)
    )
    return directory


def give_rights(cluster: ControlPlane) -> str:
    """Make the controllers' account with the rights of the documentation; return its token."""
    admin = cluster.admin
    admin.create_namespace(NAMESPACE)
    admin.create_service_account(NAMESPACE, "meshsigner")
    everywhere: tuple[Mapping[str, Any], ...] = (
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "verbs": ["get", "list", "watch", "create", "patch"],
        },
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "verbs": ["get", "list", "watch", "create", "patch"],
        },
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["clustertrustbundles"],
            "verbs": ["get", "list", "watch", "create", "patch"],
        },
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"],
            "resourceNames": ["istio.io/istiod-ca"],
            "verbs": ["attest"],
        },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "create", "update"],
        },
    )
    rules = [dict(rule) for rule in everywhere]
    admin.create(f"{RBAC}/clusterroles", {"metadata": {"name": "controllers"}, "rules": rules})
    for role in ("controllers", "system:auth-delegator"):  # the second for a server's token reviews
        admin.bind_cluster_role(role, NAMESPACE, "meshsigner")
    return admin.token(NAMESPACE, "meshsigner", audiences=())


@dataclass(kw_only=True)
class Site:
    """What all processes of one test share: the cluster, the account, the CA.

    Args:
        cluster: The cluster.
        token: Of the account.
        folder: For files.
    """

    cluster: ControlPlane
    token: str
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        """The CA's directory."""
        return self.folder / "ca"

    def configuration(self, name: str) -> Path:
        """Write a configuration, and return its path."""
        kubeconfig = self.cluster.kubeconfig(self.folder / "kubeconfig", token=self.token)
        controllers = {
            "enabled": True,
            "kubeconfig": str(kubeconfig),
            "lease": {"namespace": NAMESPACE},
            "settle": "2s",
            **self.settings,
        }
        document = {
            "trust_domain": "cluster.local",
            "clusters": [
                {
                    "id": "Kubernetes",
                    "authenticators": [{"type": "token_review", "kubeconfig": str(kubeconfig)}],
                }
            ],
            "issuer": {"type": "directory", "path": str(self.ca)},
            "listen": {
                "address": "127.0.0.1:0",
                "tls": {
                    "type": "issuer",
                    "dns_names": ["a.svc"],
                    "directory": str(self.folder / f"{name}-serving"),
                },
            },
            "inventory": {"path": str(self.folder / f"{name}.db")},
            "workers": 2,
            "admin": {"address": "127.0.0.1:0"},
            "controllers": controllers,
            "policy": {"maximum_lifetime": "24h"},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    @contextmanager
    def running(
        self, name: str = "one", what: tuple[str, ...] = ("cluster", "run")
    ) -> Iterator["Running"]:
        """Run the controllers, or a whole server, for the length of a block."""
        log, path = self.folder / f"{name}.log", self.configuration(name)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "meshsigner", *what, "--config", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        running = Running(process=process, log=log)
        try:
            yield running
        finally:
            running.end()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of `meshsigner cluster` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "meshsigner", "cluster", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S * 2,
        )


@dataclass(kw_only=True)
class Running:
    """One process.

    Args:
        process: The process.
        log: What it says.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return its log lines with an event."""
        lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
        found = [json.loads(line) for line in lines]
        return [line for line in found if line["event"].startswith(event)]

    def page(self, path: str) -> str:
        """Return a page of its admin port."""
        (ready,) = self.said("ready")
        with urllib.request.urlopen(f"http://{ready['admin']}{path}") as answer:
            text: str = answer.read().decode()
            return text

    def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until it has said something so often."""
        until(lambda: len(self.said(event)) >= count, self.log.read_text)

    @property
    def memory_bytes(self) -> int:
        """Its resident memory now, and at its highest."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def freeze(self) -> None:
        """Let it stand still."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it without a chance to give anything back."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def end(self) -> None:
        """End it kindly, by force if need be."""
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


def until(holds: Any, explain: Any = lambda: "", timeout_s: float = PATIENCE_S) -> float:
    """Wait until something holds; return how long that took, seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout_s, explain()
        time.sleep(0.05)
    return time.monotonic() - began
