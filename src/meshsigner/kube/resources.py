"""Which collections of the Kubernetes API we use, and the paths of what is in them.

Source: Kubernetes API concepts, resource URIs.
"""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object as the API serves it.

    Attributes:
        api_version: Group and version as objects carry them, such as `v1`.
        kind: As objects carry it.
        plural: Name in paths.
        namespaced: Whether each object is in a namespace.
    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def collection(self, namespace: str = "") -> str:
        """Return the path of all objects, or of those in a namespace.

        Args:
            namespace: Empty for all namespaces.
        """
        root = f"/apis/{self.api_version}" if "/" in self.api_version else "/api/v1"
        inside = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"{root}{inside}/{self.plural}"

    def object(self, name: str, namespace: str = "") -> str:
        """Return the path of one object.

        Args:
            name: Its name; may hold a colon (ClusterTrustBundle).
            namespace: Empty only for kinds without namespaces.

        Raises:
            ValueError: The name is empty, or the namespace is where it must not be.
        """
        if not name or bool(namespace) != self.namespaced:
            msg = f"{self.kind} {namespace!r}/{name!r} has no path"
            raise ValueError(msg)
        return f"{self.collection(namespace)}/{quote(name, safe='')}"


PODS = Resource(api_version="v1", kind="Pod", plural="pods")
NAMESPACES = Resource(api_version="v1", kind="Namespace", plural="namespaces", namespaced=False)
SECRETS = Resource(api_version="v1", kind="Secret", plural="secrets")
CONFIG_MAPS = Resource(api_version="v1", kind="ConfigMap", plural="configmaps")
LEASES = Resource(api_version="coordination.k8s.io/v1", kind="Lease", plural="leases")
CLUSTER_TRUST_BUNDLES = tuple(  # newest first; 1.34 serves v1beta1 behind a gate
    Resource(
        api_version=f"certificates.k8s.io/{version}",
        kind="ClusterTrustBundle",
        plural="clustertrustbundles",
        namespaced=False,
    )
    for version in ("v1", "v1beta1")
)
