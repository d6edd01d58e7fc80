"""Which Secret makes which remote cluster: a decision without a clock or a wire.

A Secret holds kubeconfigs by cluster id. It only says how to reach a cluster:
which ids there may be is configured, so that who may write Secrets cannot widen
whom the server believes. What a kubeconfig may hold is `kube.kubeconfig`.

Source: istio pkg/kube/multicluster/secretcontroller.go (label, ids as keys).
"""

import base64
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from meshsigner.kube import JsonObject, ObjectKey

LABEL = "istio/multiCluster=true"
MAX_KUBECONFIG_BYTES = 64 * 1024  # many times what they have; reading YAML is slow
_MAX_QUOTED = 100  # characters of an id, which comes from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfigs:
    """What is kept of a Secret: a kubeconfig for each cluster id; never shown."""

    by_id: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A kubeconfig in a Secret.

    Attributes:
        cluster_id: Whose it says to be.
        secret: Which Secret.
        data: The kubeconfig.
        digest: SHA-256 of it.
    """

    cluster_id: str
    secret: ObjectKey
    data: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @property
    def where(self) -> str:
        """Name it in a sentence."""
        quoted = ascii(self.cluster_id[:_MAX_QUOTED])
        return f"Secret {self.secret.namespace}/{self.secret.name}: cluster {quoted}"


def kubeconfigs_of(secret: JsonObject) -> Kubeconfigs:
    """Keep the kubeconfigs of a Secret.

    Raises:
        ValueError: A value is not base64.
        TypeError: Not a Secret.
    """
    data = secret.get("data") or {}
    if not isinstance(data, dict):
        msg = "data is no object"
        raise TypeError(msg)
    return Kubeconfigs(
        by_id={name: base64.b64decode(value, validate=True) for name, value in data.items()}
    )


def choose(
    secrets: Mapping[ObjectKey, Kubeconfigs],
    *,
    allowed: Container[str],
    configured: Container[str],
    in_use: Mapping[str, ObjectKey],
) -> tuple[dict[str, Found], list[str]]:
    """Choose a kubeconfig for each allowed id.

    Of two Secrets with one id the one in use stays, else the first by name is
    taken: nobody takes a cluster over by adding a Secret.

    Args:
        secrets: What there is.
        allowed: Ids that there may be.
        configured: Ids and aliases of the clusters that no Secret may replace.
        in_use: For ids that are served, by which Secret.

    Returns:
        What is to be served by id, and why the rest is not.
    """

    def precedence(found: Found) -> tuple[bool, ObjectKey, str]:
        return in_use.get(found.cluster_id) != found.secret, found.secret, found.cluster_id

    wanted: dict[str, Found] = {}
    problems = []
    for found in sorted(_all(secrets), key=precedence):
        if found.cluster_id in configured:
            problems.append(f"{found.where} is configured, and no Secret can take its place")
        elif found.cluster_id not in allowed:
            problems.append(f"{found.where} is not among remote_clusters.allowed")
        elif found.cluster_id in wanted:
            used = wanted[found.cluster_id].secret.name
            problems.append(f"{found.where} is in Secret {used} as well, which is used")
        elif len(found.data) > MAX_KUBECONFIG_BYTES:
            problems.append(f"{found.where} has a kubeconfig longer than 64 KiB")
        else:
            wanted[found.cluster_id] = found
    return wanted, problems


def _all(secrets: Mapping[ObjectKey, Kubeconfigs]) -> list[Found]:
    return [
        Found(cluster_id=cluster_id, secret=key, data=data, digest=sha256(data).digest())
        for key, kubeconfigs in secrets.items()
        for cluster_id, data in kubeconfigs.by_id.items()
    ]
