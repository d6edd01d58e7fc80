"""Clusters that Secrets with kubeconfigs lead to, and what each of them may speak for.

Decides what must be stated before a Secret is believed at all. Which Secret
makes which cluster, while the server runs, is `authn.remote_secrets`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from meshsigner.config.clusters import (
    Cluster,
    ClusterId,
    KeyRules,
    Namespace,
    ReviewRules,
    Text,
)
from meshsigner.config.fields import FilePath, Section, TrustDomainName
from meshsigner.config.nodes import NodeAccounts

ALL_NAMESPACES: Literal["*"] = "*"

RemoteAuthenticator = Annotated[ReviewRules | KeyRules, Field(discriminator="type")]


class RemoteCluster(Section):
    """A cluster that there may be, and what it may speak for."""

    id: ClusterId = Field(
        description="What its clients send as `clusterid`, and the key of its kubeconfig in a "
        "Secret (`istioctl create-remote-secret --name`).",
    )
    aliases: tuple[ClusterId, ...] = Field(
        default=(),
        description="Other ids that mean this cluster. Default: none.",
    )
    trust_domain: TrustDomainName = Field(
        description="Trust domain of its identities; has no default, for who may write the "
        "Secret could otherwise speak for the whole mesh unasked.",
    )
    namespaces: Annotated[tuple[Namespace, ...], Field(min_length=1)] | Literal["*"] = Field(
        description="The only namespaces that it may speak for, or `*` for all of them; has no "
        "default.",
    )
    authenticators: tuple[RemoteAuthenticator, ...] = Field(
        default=(ReviewRules(type="token_review"),),
        min_length=1,
        description="How its callers are proven, tried in this order, by its own API server: "
        "`token_review`, or `jwks` with the keys that it serves. Default: token_review.",
    )
    node_authorization: NodeAccounts | None = Field(
        default=None,
        description="Whose nodes' agents may ask for others; its account must be allowed to get, "
        "list and watch pods there. Default: none, nobody acts for others.",
    )


def _distinct(allowed: tuple[RemoteCluster, ...]) -> tuple[RemoteCluster, ...]:
    names = Counter(name for cluster in allowed for name in (cluster.id, *cluster.aliases))
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        msg = f"each id and alias once ({', '.join(twice)})"
        raise ValueError(msg)
    return allowed


class RemoteClusters(Section):
    """Where the Secrets are (label `istio/multiCluster: "true"`), and which clusters may be."""

    namespace: Namespace = Field(
        default="istio-system",
        description="Namespace of the Secrets. Default: istio-system, where istioctl writes them.",
    )
    kubeconfig: FilePath | None = Field(
        default=None,
        description="How to reach the API server that has the Secrets. Default: none, the pod's "
        "own service account; it must be allowed to list and watch Secrets there.",
    )
    context: Text | None = Field(
        default=None,
        description="Which of the kubeconfig's contexts. Default: none, its current one.",
    )
    allowed: Annotated[
        tuple[RemoteCluster, ...], Field(min_length=1), AfterValidator(_distinct)
    ] = Field(
        description="The clusters that there may be. A Secret for any other id is refused, also "
        "one for the id or alias of a configured cluster.",
    )

    def taken_names(self, clusters: Sequence[Cluster]) -> list[str]:
        """Return the ids and aliases that configured clusters have already."""
        configured = {name for cluster in clusters for name in (cluster.id, *cluster.aliases)}
        here = {name for cluster in self.allowed for name in (cluster.id, *cluster.aliases)}
        return sorted(configured & here)
