"""Clusters that come and go while the server runs, by Secrets with their kubeconfigs.

Decides when a cluster is served, served anew and served no more; which Secret
makes it is `remote_secrets`, how its callers are proven is its own
authenticators'. Trouble with one of these clusters holds up its own callers and
nobody else's, so it never makes the server unready.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from meshsigner.authn.clusters import Cluster, ClusterAuthenticator
from meshsigner.authn.remote_secrets import LABEL, Found, Kubeconfigs, choose, kubeconfigs_of
from meshsigner.background import Background
from meshsigner.errors import ConfigurationError
from meshsigner.kube import (
    SECRETS,
    Connection,
    ConnectionSource,
    KubernetesApi,
    ObjectKey,
    Timing,
    Watch,
    load_inline_kubeconfig,
)
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

NAME = "authn/remote_clusters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A cluster that there may be.

    Attributes:
        build: Makes it, once it is known how to reach it.
        aliases: Other ids that mean it.
    """

    build: Callable[[ConnectionSource], Cluster]
    aliases: tuple[str, ...] = ()


class RemoteConnection:
    """Where a remote cluster is now; a renewed credential takes the place of the old one.

    Attributes:
        connection: What its Secret says.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def current(self) -> Connection:
        """Return the connection for a request that is sent now."""
        return self.connection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A remote cluster that is served.

    Attributes:
        found: The kubeconfig in use.
        source: Where its requests go.
        cluster: It.
        closing: Ends it.
    """

    found: Found
    source: RemoteConnection
    cluster: Cluster
    closing: AsyncExitStack


class RemoteClusters:
    """Serves the clusters whose kubeconfigs lie in Secrets of one namespace.

    Args:
        known: Knows the configured clusters, and from now on these.
        allowed: The clusters that there may be, by id.
        api: The API server that has the Secrets; belongs to this object from now on.
        namespace: Where they are.
        timing: How patient the watch is.
    """

    def __init__(
        self,
        *,
        known: ClusterAuthenticator,
        allowed: Mapping[str, Allowed],
        api: KubernetesApi,
        namespace: str,
        timing: Timing | None = None,
    ) -> None:
        self._known = known
        self._configured = known.names()
        self._allowed = allowed
        self._api = api
        self._watch = Watch(
            api,
            SECRETS.collection(namespace),
            name=NAME,
            project=kubeconfigs_of,
            follower=self,
            labels=LABEL,
            timing=timing,
        )
        self._changed = asyncio.Event()
        self._running: dict[str, _Running] = {}
        self._problems: list[str] = []
        self._loop: Background | None = None
        self._expect(dict.fromkeys(allowed, "the Secrets with kubeconfigs are not read yet"))

    async def start(self) -> None:
        """Follow the Secrets from now on."""
        self._watch.start()
        self._loop = Background(self._keep_up)

    async def aclose(self) -> None:
        """Follow no more, and close what is open."""
        await self._watch.aclose()
        if self._loop is not None:
            await self._loop.stop()
        for cluster_id in list(self._running):
            await self._remove(cluster_id)
        await self._api.aclose()

    def health(self) -> Sequence[Health]:
        """Say of each cluster whether it works; none of it counts for readiness."""
        watch = self._watch.health()
        served = f"{len(self._running)} of {len(self._allowed)} allowed clusters are served"
        detail = "; ".join([served, *self._problems, f"Secrets: {watch.detail}"])
        parts = [
            health
            for running in self._running.values()
            for part in running.cluster.parts
            for health in part.health()
        ]
        return [Health(name=NAME, ready=True, detail=detail), *map(_beside_readiness, parts)]

    def upsert(self, key: ObjectKey, value: Kubeconfigs, previous: Kubeconfigs | None) -> None:
        """Note that a Secret has changed; all of them are looked at together."""
        del key, value, previous
        self._changed.set()

    def delete(self, key: ObjectKey, previous: Kubeconfigs) -> None:
        """Note that a Secret is gone."""
        del key, previous
        self._changed.set()

    def replaced(self) -> None:
        """Note that all Secrets have been read."""
        self._changed.set()

    async def _keep_up(self) -> None:
        await self._watch.synced()
        while True:
            self._changed.clear()
            await self._settle()
            await self._changed.wait()

    async def _settle(self) -> None:
        """Serve what the Secrets say now."""
        wanted, problems = choose(
            self._watch.objects,
            allowed=self._allowed,
            configured=self._configured,
            in_use={name: running.found.secret for name, running in self._running.items()},
        )
        for cluster_id in [name for name in self._running if name not in wanted]:
            await self._remove(cluster_id)
        expected: dict[str, str] = {}
        for cluster_id, found in wanted.items():
            try:
                await self._serve(found)
            except ConfigurationError as error:
                problems += error.problems
                if cluster_id not in self._running:
                    expected[cluster_id] = "its kubeconfig is refused"
        self._expect(expected)
        self._tell(problems)

    def _expect(self, missing: Mapping[str, str]) -> None:
        """Have callers of clusters that should be there told that the fault is ours."""
        names = {
            name: why
            for cluster_id, why in missing.items()
            for name in (cluster_id, *self._allowed[cluster_id].aliases)
        }
        self._known.expect(names)

    async def _serve(self, found: Found) -> None:
        """Serve a cluster by a kubeconfig; one that is served already goes on if it is refused.

        Raises:
            ConfigurationError: It is refused.
        """
        running = self._running.get(found.cluster_id)
        if running is not None and running.found.digest == found.digest:
            self._running[found.cluster_id] = replace(running, found=found)
            return
        connection = await asyncio.to_thread(load_inline_kubeconfig, found.data, found.where)
        if running is not None and _same_server(running.source.connection, connection):
            running.source.connection = connection
            running = self._running[found.cluster_id] = replace(running, found=found)
            self._log(Event.REMOTE_CLUSTER_CHANGED, running)
            return
        # Another server is another cluster: nothing that was known of the old one holds for it.
        await self._remove(found.cluster_id)
        await self._add(found, connection)

    async def _add(self, found: Found, connection: Connection) -> None:
        source = RemoteConnection(connection)
        cluster = self._allowed[found.cluster_id].build(source)
        async with AsyncExitStack() as closing:
            for part in cluster.parts:
                closing.push_async_callback(part.aclose)
                await part.start()
            self._known.add(cluster)
            running = _Running(
                found=found, source=source, cluster=cluster, closing=closing.pop_all()
            )
        self._running[found.cluster_id] = running
        self._log(Event.REMOTE_CLUSTER_ADDED, running)

    async def _remove(self, cluster_id: str) -> None:
        running = self._running.pop(cluster_id, None)
        if running is not None:
            self._known.remove(cluster_id)
            await running.closing.aclose()
            self._log(Event.REMOTE_CLUSTER_REMOVED, running)

    def _tell(self, problems: list[str]) -> None:
        if problems and problems != self._problems:
            get_logger().error(Event.REMOTE_CLUSTERS_REFUSED, problems=problems)
        self._problems = problems

    def _log(self, event: Event, running: _Running) -> None:
        get_logger().info(
            event,
            cluster=running.cluster.cluster_id,
            secret=running.found.secret.name,
            server=running.source.connection.server,
        )


def _same_server(one: Connection, other: Connection) -> bool:
    return one.server == other.server and one.tls.ca == other.tls.ca


def _beside_readiness(part: Health) -> Health:
    if part.ready:
        return part
    return replace(part, ready=True, detail=f"holds up its own callers only: {part.detail}")
