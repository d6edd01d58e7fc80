"""Whom the server believes: the clusters, and how each proves its callers.

Decides what a complete cluster is. Nothing is shared between clusters, so
each names its own authenticators; the tokens themselves are judged by `authn`.
"""

from collections import Counter
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from meshsigner.config.fields import (
    FilePath,
    InOrder,
    Section,
    TrustDomainName,
    duration_from,
    text_like,
)
from meshsigner.config.nodes import NodeAuthorization
from meshsigner.spiffe import MAX_NAMESPACE_BYTES

ClusterId = Annotated[
    str,
    text_like(
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?",
        "a cluster id of letters, digits, dots, dashes and underscores, for example Kubernetes",
    ),
]
Namespace = Annotated[
    str,
    text_like(
        rf"(?=.{{1,{MAX_NAMESPACE_BYTES}}}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "a Kubernetes namespace, for example bookinfo",
    ),
]
Text = Annotated[str, text_like(r"[^\s]+", "text without blanks, at least one character")]
HttpUrl = Annotated[
    str,
    text_like(
        r"https://[^\s?#]+|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?/[^\s?#]*",
        "an https URL without query; http is for loopback alone",
    ),
]
Audiences = Annotated[tuple[Text, ...], Field(min_length=1)]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]

Algorithms = Annotated[frozenset[Algorithm], Field(min_length=1), InOrder]

_KUBERNETES_ALGORITHMS: frozenset[Algorithm] = frozenset({"RS256", "ES256", "ES384", "ES512"})
_KEY_SOURCES = ("jwks_file", "jwks_url", "in_cluster", "kubeconfig")
_ALGORITHMS = (
    "Signature algorithms that a token may use. Default: ES256, ES384, ES512, RS256 (those that "
    "kube-apiserver signs with)."
)
_AUDIENCES = (
    "Audiences that a token may be made for. Default: istio-ca (Istio's global.sds.token.aud)."
)


class ReviewRules(Section):
    """What is asked about a token, whichever API server is asked."""

    type: Literal["token_review"] = Field(description="`token_review`.")
    audiences: Audiences = Field(default=("istio-ca",), description=_AUDIENCES)
    issuer: Text | None = Field(
        default=None,
        description="The `iss` that a token must have before the API server is asked. Default: "
        "none, the API server decides.",
    )
    algorithms: Algorithms = Field(default=_KUBERNETES_ALGORITHMS, description=_ALGORITHMS)
    cache: Annotated[timedelta, *duration_from("0s", "5m")] = Field(
        default=timedelta(seconds=10),
        description="How long an answer is believed, at most until the token expires: so long a "
        "deleted pod's token still works. Default: 10s.",
    )
    max_in_flight: PositiveInt = Field(
        default=32,
        description="Reviews asked at once. Default: 32, well under an API server's own bound.",
    )
    timeout: Annotated[timedelta, *duration_from("100ms", "30s")] = Field(
        default=timedelta(seconds=5),
        description="Longest wait for one review. Default: 5s, half of limits.handling.",
    )


class TokenReview(ReviewRules):
    """Asks the cluster's API server about each token; notices deleted pods and accounts."""

    kubeconfig: FilePath | None = Field(
        default=None,
        description="How to reach the API server; read again when it changes. Default: none, the "
        "pod's own service account in the cluster where the server runs.",
    )
    context: Text | None = Field(
        default=None,
        description="Which of the kubeconfig's contexts. Default: none, its current one.",
    )


class KeyRules(Section):
    """What a token must say that the cluster's keys verify."""

    type: Literal["jwks"] = Field(description="`jwks`.")
    issuer: Text = Field(
        description="The `iss` of the cluster's tokens, exactly (kube-apiserver's "
        "--service-account-issuer).",
    )
    audiences: Audiences = Field(default=("istio-ca",), description=_AUDIENCES)
    algorithms: Algorithms = Field(default=_KUBERNETES_ALGORITHMS, description=_ALGORITHMS)


class Jwks(KeyRules):
    """Checks tokens against the cluster's public keys; asks no API server about a token."""

    jwks_file: FilePath | None = Field(
        default=None,
        description="Keys from a file, taken anew when it changes. Default: none; without any "
        "source they are found by OIDC discovery at the issuer.",
    )
    jwks_url: HttpUrl | None = Field(
        default=None,
        description="Keys from this URL; https, plain http on loopback only. Default: none.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the roots for https. Default: none, the system's roots.",
    )
    token_file: FilePath | None = Field(
        default=None,
        description="File with a bearer token that the key endpoint asks for. Default: none.",
    )
    in_cluster: bool = Field(
        default=False,
        description="True: keys from the API server of the cluster where the server runs, with "
        "the pod's own service account. Default: false.",
    )
    kubeconfig: FilePath | None = Field(
        default=None,
        description="Keys from the API server that this file leads to. Default: none.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in _KEY_SOURCES if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"one source of keys, not {' and '.join(given)}")
        if not given and not self.issuer.startswith(
            ("https://", "http://127.0.0.1", "http://[::1]")
        ):
            sources = ", ".join(_KEY_SOURCES)
            raise ValueError(f"an https issuer, where its keys are discovered, or one of {sources}")
        return self


Authenticator = Annotated[TokenReview | Jwks, Field(discriminator="type")]


class Cluster(Section):
    """One cluster whose callers are served."""

    id: ClusterId = Field(
        description="What its clients send as `clusterid` (Istio's "
        "global.multiCluster.clusterName, `Kubernetes` unless set).",
    )
    aliases: tuple[ClusterId, ...] = Field(
        default=(),
        description="Other ids that mean this cluster (istiod's --clusterAliases). Default: none.",
    )
    local: bool = Field(
        default=False,
        description="True: callers that send no cluster id belong here. At most one cluster. "
        "Default: false.",
    )
    trust_domain: TrustDomainName | None = Field(
        default=None,
        description="Trust domain of its identities. Default: none, the server's own.",
    )
    namespaces: tuple[Namespace, ...] | None = Field(
        default=None,
        min_length=1,
        description="The only namespaces that it may speak for. Default: none, all of them.",
    )
    authenticators: tuple[Authenticator, ...] = Field(
        default=(TokenReview(type="token_review"),),
        min_length=1,
        description="How its callers are proven, tried in this order. Default: token_review with "
        "the pod's own service account.",
    )
    node_authorization: NodeAuthorization | None = Field(
        default=None,
        description="Lets nodes' agents (ztunnel) ask for the workloads of their nodes. Default: "
        "none, nobody asks for others.",
    )


def _distinct(clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
    """Refuse clusters that could not be told apart."""
    names = Counter(name for cluster in clusters for name in (cluster.id, *cluster.aliases))
    problems = [
        f"each id and alias once ({name!r} is there {count} times)"
        for name, count in names.items()
        if count > 1
    ]
    local = [cluster.id for cluster in clusters if cluster.local]
    if len(local) > 1:
        problems.append(f"at most one local cluster ({', '.join(local)} say they are)")
    own = [cluster.id for cluster in clusters if _asks_own_api_server(cluster)]
    if len(own) > 1:
        problems.append(
            f"a kubeconfig for all but one token_review ({', '.join(own)} would all ask "
            "the API server of the cluster where the server runs)",
        )
    if problems:
        raise ValueError("; ".join(problems))
    return clusters


def _asks_own_api_server(cluster: Cluster) -> bool:
    reviews = [one for one in cluster.authenticators if isinstance(one, TokenReview)]
    return any(review.kubeconfig is None for review in reviews)


Clusters = Annotated[tuple[Cluster, ...], Field(min_length=1), AfterValidator(_distinct)]
