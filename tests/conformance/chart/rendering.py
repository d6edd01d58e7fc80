"""Runs helm, and reads what it makes."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "meshsigner"
HELM = ROOT / ".servers" / "bin" / "helm"
KUBERNETES = "1.34.4"
RELEASE = "meshsigner"

# What people set, by a name for each.
SETS: dict[str, Sequence[str]] = {
    "defaults": (),
    "ambient": ("ambient.enabled=true",),
    "everything": (
        "ambient.enabled=true",
        "front.enabled=true",
        "controllers.trustBundle=true",
        "metrics.serviceMonitor.enabled=true",
        "metrics.rules.enabled=true",
        "metrics.dashboard.enabled=true",
        "remoteClusters.enabled=true",
        "remoteClusters.allowed[0].id=east",
        "remoteClusters.allowed[0].trust_domain=east.example",
        "remoteClusters.allowed[0].namespaces=*",
        "networkPolicy.scrapers[0].namespaceSelector.matchLabels.name=monitoring",
    ),
    "several": (
        "replicas=3",
        "autoscaling.enabled=true",
        "inventory.type=postgres",
        "inventory.postgres.url=postgresql://meshsigner@db.example/meshsigner",
        "inventory.postgres.secret=inventory",
        "inventory.postgres.caFromSecret=true",
    ),
    "backend": (
        "issuer.type=backends",
        "backends.bao.type=openbao_pki",
        "backends.bao.address=https://bao.example:8200",
        "backends.bao.role=mesh",
        "backends.bao.auth.type=kubernetes",
        "backends.bao.auth.role=meshsigner",
        "serving.secret=meshsigner-serving",
        "bootstrap.enabled=false",
        "controllers.enabled=false",
    ),
    "keys": ("tokens.type=jwks", "tokens.issuer=https://kubernetes.default.svc", "workers=2"),
}


class RefusedError(Exception):
    """Helm would not."""


def helm(*arguments: str) -> str:
    """Run helm.

    Raises:
        RefusedError: It failed; holds what it said.
    """
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(done.stderr or done.stdout)
    return done.stdout


def render(*settings: str, chart: Path = CHART, name: str = RELEASE) -> list[dict[str, Any]]:
    """Return the objects of a chart with some values set.

    Raises:
        RefusedError: The chart refuses them.
    """
    arguments = [part for setting in settings for part in ("--set", setting)]
    text = helm(
        "template", name, str(chart), "-n", RELEASE, "--kube-version", KUBERNETES, *arguments
    )
    return [document for document in yaml.safe_load_all(text) if document]


def one(objects: Sequence[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the object of a kind and name."""
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def pod_specs(objects: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pods that the objects would make."""
    return [o["spec"]["template"]["spec"] for o in objects if o["kind"] in {"Deployment", "Job"}]
