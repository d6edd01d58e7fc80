"""Clusters come, change and go with their Secrets, and share nothing with the others."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from meshsigner.authn.clusters import Cluster, ClusterAuthenticator
from meshsigner.authn.remote_clusters import Allowed, RemoteClusters
from meshsigner.authn.remote_secrets import LABEL
from meshsigner.errors import ConfigurationError, NotReady, Unauthenticated
from meshsigner.kube import (
    BearerToken,
    Connection,
    ConnectionSource,
    KubernetesApi,
    Timing,
    TlsFiles,
)
from meshsigner.model import AuthMethod, Caller, Credentials, Health
from meshsigner.spiffe import TrustDomain, WorkloadId
from tests.fakes.http_server import serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address
from tests.fakes.serving_tls import TestRoots, server_context
from tests.fakes.tokens import NOW

ROOTS, OTHER_ROOTS = TestRoots(), TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
DOMAIN = TrustDomain.parse("cluster.local")
SECRETS = Address("/api/v1", "secrets", "istio-system")
QUICK = Timing(silence_s=5.0, first_pause_s=0.01, longest_pause_s=0.05, settled_s=0.05)


class Member:
    """An authenticator that lets everybody in and tells by which server and token."""

    trust_domain = DOMAIN

    def __init__(self, cluster: str, source: ConnectionSource | None = None) -> None:
        """Belong to a cluster."""
        self.cluster = cluster
        self.source = source
        self.started = self.closed = False
        self.fault: Exception | None = None
        self.ready = True

    async def start(self) -> None:
        """Note it."""
        if self.fault is not None:
            raise self.fault
        self.started = True

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True

    def health(self) -> list[Health]:
        """Say what the test wants."""
        return [Health(name=f"authn/{self.cluster}", ready=self.ready, detail="detail")]

    def identify(self, credentials: Credentials, now: datetime) -> Caller:
        """Let in."""
        del credentials, now
        return Caller(
            identity=WorkloadId.of(DOMAIN, "foo", "bar"),
            cluster=self.cluster,
            auth_method=AuthMethod.TOKEN_REVIEW,
            credential_id="",
        )


def kubeconfig(server: str = "https://two.example", **user: Any) -> dict[str, Any]:
    """Return a good kubeconfig."""
    roots = base64.b64encode(ROOTS.pem).decode()
    return {
        "clusters": [
            {"name": "c", "cluster": {"server": server, "certificate-authority-data": roots}}
        ],
        "users": [{"name": "u", "user": user or {"token": "first"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def secret(name: str, **kubeconfigs: dict[str, Any]) -> dict[str, Any]:
    """Return a Secret with kubeconfigs by cluster id."""
    data = {
        cluster: base64.b64encode(json.dumps(document).encode()).decode()
        for cluster, document in kubeconfigs.items()
    }
    key, value = LABEL.split("=")
    return {"metadata": {"name": name, "labels": {key: value}}, "data": data}


class World:
    """An API server with Secrets, and who follows them.

    Attributes:
        server: The API server.
        known: Knows all clusters.
        remote: Follows the Secrets.
        made: Every remote cluster's authenticator ever made.
        fault: Raised by the next that is started.
    """

    def __init__(self, server: KubernetesObjects) -> None:
        """Allow the clusters two (alias zwei) and three beside Kubernetes."""
        self.server = server
        self.made: list[Member] = []
        self.fault: Exception | None = None
        local = Cluster(
            cluster_id="Kubernetes",
            trust_domain=DOMAIN,
            authenticators=(Member("Kubernetes"),),
            aliases=("alias",),
            local=True,
        )
        self.known = ClusterAuthenticator([local])
        connection = Connection(
            server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
        )
        self.remote = RemoteClusters(
            known=self.known,
            allowed={
                "two": Allowed(build=self._builder("two", ("zwei",)), aliases=("zwei",)),
                "three": Allowed(build=self._builder("three", ())),
            },
            api=KubernetesApi(connection),
            namespace="istio-system",
            timing=QUICK,
        )
        self.known.accompany(self.remote)

    def _builder(
        self, name: str, aliases: tuple[str, ...]
    ) -> Callable[[ConnectionSource], Cluster]:
        def build(source: ConnectionSource) -> Cluster:
            member = Member(name, source)
            member.fault, self.fault = self.fault, None
            self.made.append(member)
            return Cluster(
                cluster_id=name,
                trust_domain=DOMAIN,
                authenticators=(member,),
                aliases=aliases,
                namespaces=frozenset({"foo"}),
            )

        return build

    def put(self, document: dict[str, Any]) -> None:
        """Create or replace a Secret."""
        name = document["metadata"]["name"]
        address = SECRETS._replace(name=name)
        if any(one["metadata"]["name"] == name for one in self.server.store.list(SECRETS)):
            self.server.store.delete(address)
        self.server.store.create(SECRETS, document)

    def served(self, cluster: str) -> str:
        """Return the cluster that vouches for callers of an id, or why none does."""
        credentials = Credentials(bearer_token="x", cluster_id=cluster)
        try:
            found = self.known.identify(credentials, NOW)
        except (Unauthenticated, NotReady) as error:
            return type(error).__name__
        assert isinstance(found, Caller)
        return found.cluster

    async def until(self, cluster: str, outcome: str) -> None:
        """Wait until callers of an id are served so."""
        async with asyncio.timeout(5):
            while self.served(cluster) != outcome:
                await asyncio.sleep(0.001)

    async def until_told(self, text: str) -> None:
        """Wait until health tells something."""
        async with asyncio.timeout(5):
            while not any(text in part.detail for part in self.remote.health()):
                await asyncio.sleep(0.001)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubernetesObjects]:
    """An API server without Secrets."""
    fake = KubernetesObjects()
    async with serve(fake.http, server_context(SERVING, tmp_path)):
        yield fake


@pytest.fixture
async def world(server: KubernetesObjects) -> AsyncIterator[World]:
    """A running world."""
    made = World(server)
    await made.known.start()
    yield made
    await made.known.aclose()
    assert all(member.closed for member in made.made)


async def test_statement_37_a_cluster_comes_and_goes_with_its_secret(world: World) -> None:
    """Under its id and aliases, while the configured one is served all the time."""
    await world.until("two", "Unauthenticated")
    with capture_logs() as lines:
        world.put(secret("remote", two=kubeconfig()))
        await world.until("two", "two")
        assert world.served("zwei") == "two"
        assert world.served("three") == "Unauthenticated"
        world.server.store.delete(SECRETS._replace(name="remote"))
        await world.until("two", "Unauthenticated")
        assert world.served("zwei") == "Unauthenticated"
        assert world.served("") == world.served("alias") == "Kubernetes"
        async with asyncio.timeout(5):
            while not world.made[0].closed:
                await asyncio.sleep(0)
    told = [(line["event"], line["cluster"]) for line in lines if "cluster" in line]
    assert told == [("remote cluster added", "two"), ("remote cluster removed", "two")]
    assert "first" not in str(lines)


async def test_before_the_secrets_are_read_the_fault_is_ours(server: KubernetesObjects) -> None:
    """An allowed cluster that is not known yet is UNAVAILABLE, so that its agents come back."""
    server.refuse(5, 503)
    world = World(server)
    assert world.served("two") == world.served("zwei") == "NotReady"
    assert world.served("four") == "Unauthenticated"
    await world.known.start()
    assert world.served("two") == "NotReady"
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "two")
    await world.known.aclose()


async def test_a_renewed_credential_takes_the_place_of_the_old_one(world: World) -> None:
    """Same server, same CA: the cluster goes on with all that it knows."""
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "two")
    world.put(secret("remote", two=kubeconfig(token="second")))
    (member,) = world.made
    assert member.source is not None
    async with asyncio.timeout(5):
        while True:
            token = member.source.current().token
            if token is not None and token.current() == "second":
                break
            await asyncio.sleep(0.001)
    assert len(world.made) == 1
    assert not member.closed


async def test_another_server_is_another_cluster(world: World) -> None:
    """Nothing that was known of the old one holds for it: its authenticators are made anew."""
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "two")
    for changed in [kubeconfig(server="https://elsewhere.example"), kubeconfig()]:
        count = len(world.made)
        world.put(secret("remote", two=changed))
        async with asyncio.timeout(5):
            while len(world.made) == count or not world.made[-1].started:
                await asyncio.sleep(0.001)
        assert world.made[-2].closed
        await world.until("two", "two")


async def test_a_bad_change_is_told_and_the_old_connection_is_kept(world: World) -> None:
    """A kubeconfig that may not be used does not end a cluster that works."""
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "two")
    with capture_logs() as lines:
        world.put(secret("remote", two=kubeconfig(exec={"command": "sh", "token": "s3cret"})))
        await world.until_told("user sets 'exec'")
        assert world.served("two") == "two"
        world.put(secret("other", four=kubeconfig()))
        await world.until_told("not among remote_clusters.allowed")
    events = [line["event"] for line in lines]
    assert events.count("remote clusters refused") == 2
    assert "s3cret" not in str(lines)


async def test_a_bad_kubeconfig_is_our_fault_until_it_is_mended(world: World) -> None:
    """Its callers are told UNAVAILABLE, with the cause in health; then they are served."""
    world.put(secret("remote", two={"current-context": "x"}))
    await world.until("two", "NotReady")
    assert world.served("zwei") == "NotReady"
    await world.until_told("no context named 'x'")
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "two")
    assert "1 of 2 allowed clusters are served" in world.remote.health()[0].detail


async def test_a_cluster_that_may_not_start_is_refused(world: World) -> None:
    """Such as one with a key of another cluster; it is closed again, the next one works."""
    world.fault = ConfigurationError("the key with thumbprint x belongs to another cluster")
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "NotReady")
    await world.until_told("belongs to another cluster")
    assert world.made[0].closed
    world.put(secret("remote2", three=kubeconfig()))
    await world.until("three", "three")
    await world.until("two", "two")  # what stood in its way may be gone with any change


async def test_a_remote_cluster_never_makes_the_server_unready(world: World) -> None:
    """Its trouble is shown and holds up its own callers alone; so is that of the Secrets."""
    world.put(secret("remote", two=kubeconfig()))
    await world.until("two", "two")
    world.made[0].ready = False
    world.server.refuse(1_000, 403)
    world.server.drop_watches()
    await world.until_told("status 403")
    health = world.known.health()
    assert all(part.ready for part in health)
    assert "holds up its own callers only: detail" in [part.detail for part in health]
    world.server._refusals.clear()


async def test_a_remote_cluster_speaks_for_its_namespaces_alone(world: World) -> None:
    """What the configuration states holds for it as for any other cluster."""
    world.put(secret("remote", two=kubeconfig(), three=kubeconfig()))
    await world.until("two", "two")
    assert world.known._clusters["two"].namespaces == frozenset({"foo"})


def test_an_added_cluster_takes_nobodys_name() -> None:
    """Ids and aliases are unique however clusters come."""

    def cluster(name: str, *aliases: str) -> Cluster:
        return Cluster(
            cluster_id=name, trust_domain=DOMAIN, authenticators=(Member(name),), aliases=aliases
        )

    known = ClusterAuthenticator([cluster("a", "b")])
    for rival in [cluster("a"), cluster("b"), cluster("c", "a")]:
        with pytest.raises(ConfigurationError, match="is another cluster's"):
            known.add(rival)
    foreign = Cluster(cluster_id="d", trust_domain=DOMAIN, authenticators=(Member("x"),))
    with pytest.raises(ConfigurationError, match="an authenticator of cluster x"):
        known.add(foreign)
    assert known.names() == {"a", "b"}
