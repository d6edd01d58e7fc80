"""From settings to who is believed: the clusters, and how each proves its callers.

Nothing is started here, and nothing is shared between clusters but the list of
who owns which key.
"""

import os
from functools import partial
from pathlib import Path

from meshsigner.app.nodes import POD_CONNECTIONS, agents_of
from meshsigner.app.problems import Problems
from meshsigner.authn.clusters import Cluster, ClusterAuthenticator, ClusterMember
from meshsigner.authn.followed_pods import FollowedPods
from meshsigner.authn.jwt import JwtAuthenticator
from meshsigner.authn.key_sets import KeyOwners
from meshsigner.authn.key_sources import (
    ApiServerKeys,
    DiscoveredKeys,
    FileKeys,
    KeySource,
    UrlKeys,
)
from meshsigner.authn.node import ClusterNodes, NodeRules
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.authn.remote_clusters import Allowed, RemoteClusters
from meshsigner.authn.token_review import TokenReviewAuthenticator
from meshsigner.authn.tokens import TokenRules
from meshsigner.config import Config
from meshsigner.config.clusters import Cluster as ClusterSection
from meshsigner.config.clusters import Jwks, KeyRules, ReviewRules, TokenReview
from meshsigner.config.remote_clusters import ALL_NAMESPACES, RemoteCluster
from meshsigner.config.remote_clusters import RemoteClusters as RemoteSection
from meshsigner.kube import ConnectionSource, KubeconfigFile, KubernetesApi, in_cluster
from meshsigner.spiffe import TrustDomain


def authenticator_of(
    config: Config, followed: dict[str, ClusterNodes] | None = None
) -> ClusterAuthenticator:
    """Return what proves the callers of all clusters.

    Args:
        config: The settings.
        followed: Gets the clusters whose nodes' agents may ask for others, as remote
            ones come and go.

    Raises:
        ConfigurationError: A kubeconfig, a URL or the pod's own account cannot
            be used; it holds the problems of all clusters.
    """
    owners, problems = KeyOwners(), Problems()
    clusters = [
        _cluster(section, section.trust_domain or config.trust_domain, owners, problems)
        for section in config.clusters
    ]
    followed = {} if followed is None else followed
    remote = config.remote_clusters
    api = problems.attempt(partial(_remote_api, remote), where="remote_clusters")
    problems.settle()
    known = ClusterAuthenticator(clusters)
    if remote is not None and api is not None:
        allowed = {section.id: _allowed(section, owners, followed) for section in remote.allowed}
        known.accompany(
            RemoteClusters(known=known, allowed=allowed, api=api, namespace=remote.namespace)
        )
    return known


def _remote_api(section: RemoteSection | None) -> KubernetesApi | None:
    return _api_server(section.kubeconfig, section.context) if section is not None else None


def _allowed(
    section: RemoteCluster, owners: KeyOwners, followed: dict[str, ClusterNodes]
) -> Allowed:
    return Allowed(
        build=partial(_remote_cluster, section, owners, followed), aliases=section.aliases
    )


def _remote_cluster(
    section: RemoteCluster,
    owners: KeyOwners,
    followed: dict[str, ClusterNodes],
    source: ConnectionSource,
) -> Cluster:
    return Cluster(
        cluster_id=section.id,
        trust_domain=section.trust_domain,
        authenticators=tuple(
            _at_api_server(kind, section.id, section.trust_domain, owners, source)
            for kind in section.authenticators
        ),
        aliases=section.aliases,
        namespaces=_namespaces(section),
        companions=_pods(section, followed, source),
    )


def _namespaces(section: RemoteCluster) -> frozenset[str] | None:
    return None if section.namespaces == ALL_NAMESPACES else frozenset(section.namespaces)


def _pods(
    section: RemoteCluster, followed: dict[str, ClusterNodes], source: ConnectionSource
) -> tuple[FollowedPods, ...]:
    """Return what follows the cluster's pods, if its nodes' agents may ask for others."""
    if section.node_authorization is None:
        return ()
    rules = NodeRules(
        cluster=section.id,
        trust_domain=section.trust_domain,
        agents=agents_of(section.node_authorization),
        namespaces=_namespaces(section),
    )
    return (FollowedPods(rules, KubernetesApi(source, max_connections=POD_CONNECTIONS), followed),)


def _at_api_server(
    section: ReviewRules | KeyRules,
    cluster: str,
    domain: TrustDomain,
    owners: KeyOwners,
    source: ConnectionSource,
) -> ClusterMember:
    """Return an authenticator that has all it needs from one API server."""
    if isinstance(section, KeyRules):
        keys = ApiServerKeys(KubernetesApi(source, max_connections=4), section.issuer)
        return _by_keys(section, cluster, domain, owners, keys)
    return _by_review(section, cluster, domain, _reviewer(section, source))


def _cluster(
    section: ClusterSection, domain: TrustDomain, owners: KeyOwners, problems: Problems
) -> Cluster:
    members = [
        problems.attempt(
            partial(_authenticator, kind, section.id, domain, owners),
            where=f"cluster {section.id}, {kind.type}",
        )
        for kind in section.authenticators
    ]
    return Cluster(
        cluster_id=section.id,
        trust_domain=domain,
        authenticators=tuple(member for member in members if member is not None),
        aliases=section.aliases,
        local=section.local,
        namespaces=frozenset(section.namespaces) if section.namespaces else None,
    )


def _authenticator(
    section: TokenReview | Jwks, cluster: str, domain: TrustDomain, owners: KeyOwners
) -> ClusterMember:
    if isinstance(section, Jwks):
        return _by_keys(section, cluster, domain, owners, _key_source(section))
    source = _source(section.kubeconfig, section.context)
    return _by_review(section, cluster, domain, _reviewer(section, source))


def _by_keys(
    section: KeyRules, cluster: str, domain: TrustDomain, owners: KeyOwners, source: KeySource
) -> JwtAuthenticator:
    keys = PublicKeys(cluster=cluster, source=source, owners=owners)
    return JwtAuthenticator(cluster=cluster, trust_domain=domain, rules=_rules(section), keys=keys)


def _by_review(
    section: ReviewRules, cluster: str, domain: TrustDomain, reviewer: KubernetesApi
) -> TokenReviewAuthenticator:
    return TokenReviewAuthenticator(
        cluster=cluster,
        trust_domain=domain,
        rules=_rules(section),
        reviewer=reviewer,
        believed_for=section.cache,
        timeout=section.timeout,
        max_in_flight=section.max_in_flight,
    )


def _rules(section: ReviewRules | KeyRules) -> TokenRules:
    return TokenRules(
        audiences=section.audiences,
        issuer=section.issuer,
        algorithms=frozenset(section.algorithms),
    )


def _reviewer(section: ReviewRules, source: ConnectionSource) -> KubernetesApi:
    return KubernetesApi(
        source,
        timeout_s=section.timeout.total_seconds(),
        max_connections=section.max_in_flight,
    )


def _key_source(section: Jwks) -> KeySource:
    if section.jwks_file is not None:
        return FileKeys(section.jwks_file)
    if section.in_cluster or section.kubeconfig is not None:
        return ApiServerKeys(_api_server(section.kubeconfig), section.issuer)
    if section.jwks_url is not None:
        return UrlKeys(section.jwks_url, ca_file=section.ca_file, token_file=section.token_file)
    return DiscoveredKeys(section.issuer, ca_file=section.ca_file, token_file=section.token_file)


def _api_server(kubeconfig: Path | None, context: str | None = None) -> KubernetesApi:
    return KubernetesApi(_source(kubeconfig, context), max_connections=4)


def _source(kubeconfig: Path | None, context: str | None) -> ConnectionSource:
    """Return how to reach an API server: by a kubeconfig, or as a pod of its cluster."""
    return in_cluster(os.environ) if kubeconfig is None else KubeconfigFile(kubeconfig, context)
