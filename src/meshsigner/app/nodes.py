"""From settings to who may ask for others: one follower of pods for each cluster that allows it.

Nothing is started here; followers live as long as the authenticators they accompany.
"""

import os
from functools import partial

from meshsigner.app.problems import Problems
from meshsigner.authn.clusters import ClusterAuthenticator
from meshsigner.authn.followed_pods import FollowedPods
from meshsigner.authn.node import ClusterNodes, NodeAuthorizer, NodeRules
from meshsigner.authn.pods import Account
from meshsigner.config import Config
from meshsigner.config.clusters import Cluster as ClusterSection
from meshsigner.config.nodes import NodeAccounts, NodeAuthorization
from meshsigner.kube import KubeconfigFile, KubernetesApi, in_cluster
from meshsigner.spiffe import TrustDomain

POD_CONNECTIONS = 16  # one watch, the looks at single nodes


def nodes_of(
    config: Config,
    authenticator: ClusterAuthenticator,
    known: dict[str, ClusterNodes] | None = None,
) -> NodeAuthorizer:
    """Return who may ask for whom, in all clusters.

    Args:
        config: The settings.
        authenticator: Starts and ends what follows the clusters' pods.
        known: Gets the clusters; has remote ones too, while they are there.

    Raises:
        ConfigurationError: An API server's place is not known; holds all problems.
    """
    known = {} if known is None else known
    problems = Problems()
    for section in config.clusters:
        if section.node_authorization is None:
            continue
        rules = rules_of(section, section.node_authorization, config.trust_domain)
        followed = problems.attempt(
            partial(_follow, section.node_authorization, rules, known),
            where=f"cluster {section.id}, node_authorization",
        )
        if followed is not None:
            authenticator.accompany(followed)
    problems.settle()
    return NodeAuthorizer(known)


def rules_of(
    cluster: ClusterSection, section: NodeAuthorization, trust_domain: TrustDomain
) -> NodeRules:
    """Return who may ask for whom in one cluster.

    Args:
        cluster: Its settings.
        section: Those of its nodes.
        trust_domain: The server's own.
    """
    return NodeRules(
        cluster=cluster.id,
        trust_domain=cluster.trust_domain or trust_domain,
        agents=agents_of(section),
        namespaces=frozenset(cluster.namespaces) if cluster.namespaces else None,
    )


def agents_of(section: NodeAccounts) -> frozenset[Account]:
    """Return whose nodes' agents they are that may ask for others."""
    accounts = [account.split("/") for account in section.accounts]
    return frozenset(Account(namespace, name) for namespace, name in accounts)


def _follow(
    section: NodeAuthorization, rules: NodeRules, known: dict[str, ClusterNodes]
) -> FollowedPods:
    source = (
        in_cluster(os.environ)
        if section.kubeconfig is None
        else KubeconfigFile(section.kubeconfig, section.context)
    )
    return FollowedPods(rules, KubernetesApi(source, max_connections=POD_CONNECTIONS), known)
