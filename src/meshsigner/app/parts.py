"""From settings to the parts of one server: who is believed, what is allowed, how much.

Turns sections of the configuration into the values and adapters that the rest
of the package takes. Nothing is started here.
"""

import os
from collections.abc import Callable
from datetime import datetime
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
from meshsigner.batch import GatherLimits
from meshsigner.config import Config
from meshsigner.config.clusters import Cluster as ClusterSection
from meshsigner.config.clusters import Jwks, TokenReview
from meshsigner.config.policy import PolicySection
from meshsigner.config.sections import IssuerSelfMade
from meshsigner.config.sections import Limits as LimitsSection
from meshsigner.issuance import IssuanceLimits
from meshsigner.kube import KubernetesApi, in_cluster, load_kubeconfig
from meshsigner.model import KeyAlgorithm, Lifetimes
from meshsigner.orders import QueueLimits
from meshsigner.policy import Policy
from meshsigner.rpc.limits import Limits
from meshsigner.signing.self_made import SelfMadeCa
from meshsigner.spiffe import TrustDomain


def policy_of(config: Config, generation: int) -> Policy:
    """Return the rules of a configuration.

    Args:
        config: The settings.
        generation: Counts reloads.
    """
    section = config.policy
    domains = {config.trust_domain, *(c.trust_domain for c in config.clusters if c.trust_domain)}
    return Policy(
        trust_domains=frozenset(domains),
        lifetimes=_lifetimes(section),
        key_algorithms=frozenset(map(KeyAlgorithm, section.key_algorithms)),
        min_rsa_bits=section.min_rsa_bits,
        max_rsa_bits=section.max_rsa_bits,
        generation=generation,
    )


def _lifetimes(section: PolicySection) -> Lifetimes:
    return Lifetimes(
        default=section.default_lifetime,
        maximum=section.maximum_lifetime,
        clamp=section.over_maximum == "clamp",
        backdate=section.backdate,
    )


def issuance_limits_of(section: LimitsSection) -> IssuanceLimits:
    """Return the bounds of the pipeline."""
    return IssuanceLimits(
        gather=GatherLimits(waiting=section.waiting, waiting_bytes=section.waiting_bytes),
        queue=QueueLimits(
            total=section.queue_total,
            per_namespace=section.queue_per_namespace,
            per_caller=section.queue_per_caller,
            wait_s=section.queue_wait.total_seconds(),
        ),
        parked=section.parked,
    )


def wire_limits_of(section: LimitsSection) -> Limits:
    """Return the bounds of the wire."""
    return Limits(
        max_connections=section.connections,
        handshake_s=section.handshake.total_seconds(),
        max_streams=section.streams_per_connection,
        max_calls_per_connection=section.calls_per_connection,
        max_calls=section.calls_in_flight,
        handling_s=section.handling.total_seconds(),
        max_message_bytes=section.message_bytes,
        soft_header_bytes=section.metadata_soft_bytes,
        hard_header_bytes=section.metadata_hard_bytes,
        connection_idle_s=section.connection_idle.total_seconds(),
        connection_age_s=section.connection_age.total_seconds(),
    )


def upkeep_of(config: Config) -> Callable[[datetime], object]:
    """Return what keeps the CA's directory fresh: nothing, for a CA of somebody else."""
    issuer = config.issuer
    if isinstance(issuer, IssuerSelfMade):
        return SelfMadeCa(
            directory=issuer.path,
            trust_domain=config.trust_domain,
            root_lifetime=issuer.root_lifetime,
            intermediate_lifetime=issuer.intermediate_lifetime,
        ).ensure
    return lambda _: None


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
    connection = (
        in_cluster(os.environ) if kubeconfig is None else load_kubeconfig(kubeconfig, context)
    )
    return KubernetesApi(connection, timeout_s=timeout_s, max_connections=max_connections)
