"""What the server keeps in its cluster: roots in every namespace, istiod's certificate."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field, PositiveInt

from meshsigner.config.clusters import Namespace, Text
from meshsigner.config.fields import FilePath, Section, duration_from, text_like
from meshsigner.config.sections import DnsName, Lifetime

_NAMES = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
ObjectName = Annotated[str, text_like(_NAMES, "the name of an object, for example istiod-tls")]
Revision = Annotated[
    str, text_like(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a revision, for example canary")
]
LabelSelector = Annotated[
    str,
    text_like(r"[^\s]*", "a label selector without blanks, for example team=shop"),
]


class Lease(Section):
    """How one of all processes is elected to write."""

    namespace: Namespace = Field(
        default="meshsigner", description="Where the Lease is. Default: meshsigner."
    )
    name: ObjectName = Field(
        default="meshsigner-controllers",
        description="Name of the Lease. Default: meshsigner-controllers.",
    )
    duration: Annotated[timedelta, *duration_from("4s", "15s")] = Field(
        default=timedelta(seconds=9),
        description="After so long without a sign of its leader another may lead; it is renewed "
        "and looked at each quarter of it. Default: 9s, so that another leads within 13.5 s.",
    )


class RootConfigMaps(Section):
    """The roots in a ConfigMap of every namespace."""

    enabled: bool = Field(default=True, description="False: none is kept. Default: true.")
    name: ObjectName = Field(
        default="istio-ca-root-cert",
        description="Name of the ConfigMaps. Default: istio-ca-root-cert (Istio's own).",
    )
    namespace_selector: LabelSelector = Field(
        default="",
        description="Label selector of the namespaces that get one. Default: empty, all of them.",
    )
    excluded_namespaces: tuple[Namespace, ...] = Field(
        default=("kube-node-lease", "kube-public", "local-path-storage"),
        description="Namespaces that get none. Default: kube-node-lease, kube-public, "
        "local-path-storage (those that istiod leaves out).",
    )


class Istiod(Section):
    """One Secret with istiod's serving certificate."""

    namespace: Namespace = Field(
        default="istio-system", description="Where istiod runs. Default: istio-system."
    )
    secret: ObjectName = Field(
        default="istiod-tls",
        description="Name of the Secret. Default: istiod-tls (what istiod's chart mounts).",
    )
    revisions: tuple[Revision, ...] = Field(
        default=(),
        description="Revisions of istiod that use it: each adds the name istiod-REVISION.NAMESPACE"
        ".svc. Default: none, the names without a revision alone.",
    )
    dns_names: tuple[DnsName, ...] = Field(
        default=(),
        description="Further names that istiod is dialled by (the host of discoveryAddress, "
        "ISTIOD_CUSTOM_HOST). Default: none.",
    )


class Controllers(Section):
    """What one of all processes, elected by a Lease, keeps in the cluster."""

    enabled: bool = Field(
        default=False,
        description="True: the workers take part in the election, and who leads writes. "
        "Default: false.",
    )
    kubeconfig: FilePath | None = Field(
        default=None,
        description="How to reach the API server. Default: none, the pod's own service account.",
    )
    context: Text | None = Field(
        default=None,
        description="Which of the kubeconfig's contexts. Default: none, its current one.",
    )
    lease: Lease = Field(default=Lease(), description="How the writer is elected.")
    root_config_maps: RootConfigMaps = Field(
        default=RootConfigMaps(), description="The roots in a ConfigMap of every namespace."
    )
    trust_bundle: bool = Field(
        default=True,
        description="Keep the ClusterTrustBundle istio.io:istiod-ca:root-cert where the API server "
        "has that kind. Default: true.",
    )
    istiod: tuple[Istiod, ...] = Field(
        default=(Istiod(),),
        description="Secrets with istiod's serving certificate; an empty list for none. Default: "
        "istiod-tls in istio-system.",
    )
    istiod_lifetime: Lifetime = Field(
        default=timedelta(days=1),
        description="How long a certificate of istiod lasts; it is renewed in place at half of it. "
        "Default: 24h, as a workload's.",
    )
    writes_per_second: PositiveInt = Field(
        default=50,
        description="Bound of all writes, so that a root change in thousands of namespaces does "
        "not drown the API server. Default: 50.",
    )
    settle: Annotated[timedelta, *duration_from("0s", "1h")] = Field(
        default=timedelta(minutes=2),
        description="How long a new root must have been everywhere in the cluster before a serving "
        "certificate under it is shown: pods get changed ConfigMaps with delay. Default: 2m "
        "(kubelet's sync period and cache, each about one).",
    )
    longest_leaf: Annotated[timedelta, *duration_from("1s", "3650d")] | None = Field(
        default=None,
        description="How long a new root must have been everywhere before it may sign, and an old "
        "one stays after: the longest lifetime that is really asked for. Default: none, "
        "policy.maximum_lifetime.",
    )
