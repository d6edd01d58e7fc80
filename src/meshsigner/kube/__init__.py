"""The Kubernetes API, as far as we use it.

`kubeconfig` finds where an API server is, `connection` holds how we prove it
and ourselves, `api` has the verbs, `refusals` what a no means, `watching`
follows collections, `resources` names them.
"""

from meshsigner.kube.api import JsonObject, KubernetesApi, Page
from meshsigner.kube.connection import (
    BearerToken,
    Connection,
    ConnectionSource,
    TlsFiles,
    read_at_most,
)
from meshsigner.kube.kubeconfig import in_cluster, load_inline_kubeconfig, load_kubeconfig
from meshsigner.kube.kubeconfig_file import KubeconfigFile
from meshsigner.kube.refusals import (
    ApiRefused,
    Conflict,
    Gone,
    NotAllowed,
    NotFound,
    Throttled,
)
from meshsigner.kube.resources import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    LEASES,
    NAMESPACES,
    PODS,
    SECRETS,
    Resource,
)
from meshsigner.kube.watching import Follower, ObjectKey, Timing, Watch, key_of

__all__ = [
    "CLUSTER_TRUST_BUNDLES",
    "CONFIG_MAPS",
    "LEASES",
    "NAMESPACES",
    "PODS",
    "SECRETS",
    "ApiRefused",
    "BearerToken",
    "Conflict",
    "Connection",
    "ConnectionSource",
    "Follower",
    "Gone",
    "JsonObject",
    "KubeconfigFile",
    "KubernetesApi",
    "NotAllowed",
    "NotFound",
    "ObjectKey",
    "Page",
    "Resource",
    "Throttled",
    "Timing",
    "TlsFiles",
    "Watch",
    "in_cluster",
    "key_of",
    "load_inline_kubeconfig",
    "load_kubeconfig",
    "read_at_most",
]
