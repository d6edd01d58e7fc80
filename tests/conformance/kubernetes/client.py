"""Our own client, connected to a test cluster; what it is asked to do is the tests' matter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from tests.conformance.kubernetes.cluster import ADMIN_TOKEN, ControlPlane


def connection(cluster: ControlPlane, token: str = ADMIN_TOKEN) -> Connection:
    """Return how to reach a cluster with a token, an administrator's by default."""
    return Connection(
        server=cluster.server,
        tls=TlsFiles(ca=cluster.authority.roots),
        token=BearerToken(token),
    )


@asynccontextmanager
async def client(
    cluster: ControlPlane, token: str = ADMIN_TOKEN, *, timeout_s: float = 5.0
) -> AsyncIterator[KubernetesApi]:
    """Have our client of a cluster for the length of a block."""
    api = KubernetesApi(connection(cluster, token), timeout_s=timeout_s)
    try:
        yield api
    finally:
        await api.aclose()
