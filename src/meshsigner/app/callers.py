"""From settings to who is believed: the clusters, and how each proves its callers.

Nothing is started here, and nothing is shared between clusters but the list of
who owns which key.
"""

import os
from functools import partial
from pathlib import Path

from meshsigner.app.problems import Problems
from meshsigner.authn.clusters import Cluster, ClusterAuthenticator, ClusterMember
from meshsigner.authn.jwt import JwtAuthenticator
from meshsigner.authn.key_sets import KeyOwners
from meshsigner.authn.key_sources import (
    ApiServerKeys,
    DiscoveredKeys,
    FileKeys,
    KeySource,
    UrlKeys,
)
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.authn.token_review import TokenReviewAuthenticator
from meshsigner.authn.tokens import TokenRules
from meshsigner.config import Config
from meshsigner.config.clusters import Cluster as ClusterSection
from meshsigner.config.clusters import Jwks, TokenReview
from meshsigner.kube import ConnectionSource, KubeconfigFile, KubernetesApi, in_cluster
from meshsigner.spiffe import TrustDomain


def authenticator_of(config: Config) -> ClusterAuthenticator:
    """Return what proves the callers of all clusters.

    Raises:
        ConfigurationError: A kubeconfig, a URL or the pod's own account cannot
            be used; it holds the problems of all clusters.
    """
    owners, problems = KeyOwners(), Problems()
    clusters = [
        _cluster(section, section.trust_domain or config.trust_domain, owners, problems)
        for section in config.clusters
    ]
    problems.settle()
    return ClusterAuthenticator(clusters)


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
    rules = TokenRules(
        audiences=section.audiences,
        issuer=section.issuer,
        algorithms=frozenset(section.algorithms),
    )
    if isinstance(section, Jwks):
        keys = PublicKeys(cluster=cluster, source=_key_source(section), owners=owners)
        return JwtAuthenticator(cluster=cluster, trust_domain=domain, rules=rules, keys=keys)
    return TokenReviewAuthenticator(
        cluster=cluster,
        trust_domain=domain,
        rules=rules,
        reviewer=_reviewer(section),
        believed_for=section.cache,
        timeout=section.timeout,
        max_in_flight=section.max_in_flight,
    )


def _reviewer(section: TokenReview) -> KubernetesApi:
    return _api_server(
        section.kubeconfig,
        section.context,
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


def _api_server(
    kubeconfig: Path | None,
    context: str | None = None,
    *,
    timeout_s: float = 5.0,
    max_connections: int = 4,
) -> KubernetesApi:
    source: ConnectionSource = (
        in_cluster(os.environ) if kubeconfig is None else KubeconfigFile(kubeconfig, context)
    )
    return KubernetesApi(source, timeout_s=timeout_s, max_connections=max_connections)
