"""Who may ask for the certificates of others, and where the pods are known that prove it.

Decides what a complete section is; the rules themselves are `authn`'s.
"""

from typing import Annotated

from pydantic import Field

from meshsigner.config.fields import FilePath, Section, text_like
from meshsigner.spiffe import MAX_NAMESPACE_BYTES

NodeAccount = Annotated[
    str,
    text_like(
        rf"(?=[^/]{{1,{MAX_NAMESPACE_BYTES}}}/.{{1,253}}$)"
        r"[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?",
        "namespace/account, for example istio-system/ztunnel",
    ),
]


class NodeAccounts(Section):
    """Lets a node's agent (ztunnel) ask for the workloads of its own node."""

    accounts: tuple[NodeAccount, ...] = Field(
        default=("istio-system/ztunnel",),
        min_length=1,
        description="Service accounts of such agents, namespace/account (istiod's "
        "CA_TRUSTED_NODE_ACCOUNTS). Default: istio-system/ztunnel, as Istio's charts set it.",
    )


class NodeAuthorization(NodeAccounts):
    """The same, and where the pods are known that prove it."""

    kubeconfig: FilePath | None = Field(
        default=None,
        description="How to reach the API server whose pods are watched; needs get, list and "
        "watch for pods. Default: none, the pod's own service account in the cluster where the "
        "server runs.",
    )
    context: Annotated[str, text_like(r"[^\s]+", "text without blanks")] | None = Field(
        default=None,
        description="Which of the kubeconfig's contexts. Default: none, its current one.",
    )
