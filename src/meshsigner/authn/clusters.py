"""Chooses the cluster that vouches for a caller; whom it believes stays in that cluster.

Decides which configured cluster a `clusterid` means and in which order that
cluster's authenticators are asked. Callers choose the id, so nothing may be
shared between clusters: two of them often have issuers of the same name.

Source: istio security/pkg/server/ca/authenticate/kubeauth/kube_jwt.go
(ids, aliases, the empty id); pkg/security/authentication.go (the first success
wins).
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from meshsigner.authn.tokens import bearer_token
from meshsigner.errors import ConfigurationError, NotReady, ServiceFault, Unauthenticated
from meshsigner.model import Caller, Credentials, Health
from meshsigner.ports import Authenticator, Parked
from meshsigner.spiffe import TrustDomain


class ClusterMember(Authenticator, Protocol):
    """An authenticator of one cluster: `JwtAuthenticator`, `TokenReviewAuthenticator`.

    Attributes:
        cluster: Id of its cluster.
        trust_domain: Trust domain of the identities that it proves.
    """

    cluster: str
    trust_domain: TrustDomain

    async def start(self) -> None:
        """Begin what runs in the background.

        Raises:
            ConfigurationError: It could never work as it is configured.
        """
        ...

    async def aclose(self) -> None:
        """End it and release connections."""
        ...


class Companion(Protocol):
    """Something that is started and ended with the authenticators."""

    async def start(self) -> None:
        """Begin what runs in the background."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...

    def health(self) -> Sequence[Health]:
        """Say how it is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster whose callers are served.

    Attributes:
        cluster_id: What its clients send as `clusterid`.
        trust_domain: Trust domain of its identities.
        authenticators: How its callers are proven, in this order; each belongs
            to this cluster alone.
        aliases: Other ids that mean this cluster.
        local: Callers without an id belong here.
        namespaces: The only namespaces that it may speak for; None is all.
        companions: What else lives as long as a cluster that comes and goes.
    """

    cluster_id: str
    trust_domain: TrustDomain
    authenticators: tuple[ClusterMember, ...]
    aliases: tuple[str, ...] = ()
    local: bool = False
    namespaces: frozenset[str] | None = None
    companions: tuple[Companion, ...] = ()

    @property
    def parts(self) -> tuple[ClusterMember | Companion, ...]:
        """All that is started and ended with it."""
        return (*self.authenticators, *self.companions)


class ClusterAuthenticator:
    """Proves callers of all configured clusters.

    Args:
        clusters: At least one.

    Raises:
        ConfigurationError: An id that is there twice, two local clusters, or an
            authenticator that is not this cluster's own.
    """

    def __init__(self, clusters: Sequence[Cluster]) -> None:
        problems = _problems(clusters)
        if problems:
            raise ConfigurationError(*problems)
        self._members: list[ClusterMember | Companion] = [
            part for cluster in clusters for part in cluster.parts
        ]
        self._clusters = {name: cluster for cluster in clusters for name in _names(cluster)}
        self._expected: Mapping[str, str] = {}

    def names(self) -> frozenset[str]:
        """Return the ids and aliases of all clusters."""
        return frozenset(self._clusters)

    def accompany(self, companion: Companion) -> None:
        """Have something started and ended with the authenticators; before they start."""
        self._members.append(companion)

    def add(self, cluster: Cluster) -> None:
        """Serve one more cluster; whoever adds it has started it, and ends it.

        Raises:
            ConfigurationError: An id or alias is another cluster's, or an
                authenticator is not this cluster's own.
        """
        problems = _member_problems(cluster) + [
            f"cluster {cluster.cluster_id}: the id {name!r} is another cluster's"
            for name in _names(cluster)
            if name in self._clusters
        ]
        if problems:
            raise ConfigurationError(*problems)
        self._clusters |= dict.fromkeys(_names(cluster), cluster)

    def remove(self, cluster_id: str) -> None:
        """Serve a cluster no more."""
        for name in _names(self._clusters[cluster_id]):
            del self._clusters[name]

    def expect(self, names: Mapping[str, str]) -> None:
        """Say which clusters should be there and are not, and why, for a fault of ours."""
        self._expected = names

    async def start(self) -> None:
        """Start all authenticators.

        Raises:
            ConfigurationError: One of them could never work, or a key belongs to
                two clusters; nothing is left running.
        """
        results = await asyncio.gather(*(m.start() for m in self._members), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if not errors:
            return
        await self.aclose()
        for error in errors:
            if not isinstance(error, ConfigurationError):
                raise error
        raise ConfigurationError(*(p for e in errors for p in getattr(e, "problems", ())))

    async def aclose(self) -> None:
        """Stop all authenticators."""
        await asyncio.gather(*(member.aclose() for member in self._members))

    def health(self) -> Sequence[Health]:
        """Say of each authenticator whether it can prove anybody."""
        return [health for member in self._members for health in member.health()]

    def identify(self, credentials: Credentials, now: datetime) -> Caller | Parked:
        """Prove the caller to the cluster that it names.

        The first authenticator that succeeds wins. One that must wait makes the
        caller wait, for the ones behind it are its replacement, not its rivals.

        Args:
            credentials: What the caller showed.
            now: The turn's time.

        Raises:
            Unauthenticated: No token over TLS, an unknown cluster, every
                authenticator refuses, or a namespace that the cluster may not
                speak for: its word is no proof there.
            ServiceFault: None succeeds and one of them cannot judge, or the
                cluster should be there and is not.
        """
        bearer_token(credentials)
        cluster = self._clusters.get(credentials.cluster_id)
        if cluster is None:
            raise self._unknown(credentials.cluster_id)
        found = _ask(cluster.authenticators, credentials, now)
        if isinstance(found, Parked) or cluster.namespaces is None:
            return found
        if found.identity.namespace not in cluster.namespaces:
            raise Unauthenticated("the cluster may not speak for this namespace")
        return found

    def _unknown(self, cluster_id: str) -> Unauthenticated | NotReady:
        if cluster_id in self._expected:
            return NotReady(f"cluster {cluster_id}: {self._expected[cluster_id]}")
        return Unauthenticated("an unknown cluster, or none where no cluster is local")


def _names(cluster: Cluster) -> tuple[str, ...]:
    """Return what callers may call it; the local one is also called nothing."""
    return (cluster.cluster_id, *cluster.aliases, *([""] if cluster.local else []))


def _ask(
    authenticators: Sequence[Authenticator],
    credentials: Credentials,
    now: datetime,
) -> Caller | Parked:
    refusals: list[str] = []
    fault: ServiceFault | None = None
    for authenticator in authenticators:
        try:
            return authenticator.identify(credentials, now)
        except Unauthenticated as refusal:
            refusals.append(str(refusal))
        except ServiceFault as error:
            fault = fault or error
    if fault is not None:
        # our own fault is told as such, even where others refused
        raise fault
    raise Unauthenticated("; ".join(refusals))


def _problems(clusters: Sequence[Cluster]) -> list[str]:
    problems = _name_problems(clusters)
    if sum(cluster.local for cluster in clusters) > 1:
        problems.append("clusters: at most one may be local")
    members = [id(member) for cluster in clusters for member in cluster.authenticators]
    if Counter(members) - Counter(set(members)):
        problems.append("clusters: an authenticator belongs to one cluster, once")
    for cluster in clusters:
        problems += _member_problems(cluster)
    return problems


def _name_problems(clusters: Sequence[Cluster]) -> list[str]:
    names = [name for cluster in clusters for name in (cluster.cluster_id, *cluster.aliases)]
    twice = Counter(names) - Counter(set(names))
    problems = [f"clusters: the id {name!r} is there more than once" for name in twice]
    if not names or "" in names:
        problems.append("clusters: at least one, each id and alias not empty")
    return problems


def _member_problems(cluster: Cluster) -> list[str]:
    if not cluster.authenticators:
        return [f"cluster {cluster.cluster_id}: no authenticator"]
    return [
        f"cluster {cluster.cluster_id}: an authenticator of cluster {member.cluster}, "
        f"trust domain {member.trust_domain}"
        for member in cluster.authenticators
        if (member.cluster, member.trust_domain) != (cluster.cluster_id, cluster.trust_domain)
    ]
