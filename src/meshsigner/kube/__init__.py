"""The Kubernetes API, as far as we use it.

`kubeconfig` finds where an API server is, `connection` holds how we prove it
and ourselves, `api` talks to it. Watches come with the controllers.
"""

from meshsigner.kube.api import KubernetesApi
from meshsigner.kube.connection import BearerToken, Connection, TlsFiles, read_at_most
from meshsigner.kube.kubeconfig import in_cluster, load_kubeconfig

__all__ = [
    "BearerToken",
    "Connection",
    "KubernetesApi",
    "TlsFiles",
    "in_cluster",
    "load_kubeconfig",
    "read_at_most",
]
