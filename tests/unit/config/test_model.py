"""What a configuration means: defaults, cross rules, the environment."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import ValidationError

from meshsigner.config import Config
from meshsigner.config.clusters import Jwks, TokenReview
from meshsigner.spiffe import TrustDomain

Load = Callable[..., Config]
Problems = Callable[..., tuple[str, ...]]


def test_smallest_configuration_names_identities_and_secrets_alone(load: Load) -> None:
    """Trust domain, a cluster, the serving names and the CA's path are all that must be said."""
    config = load()
    assert config.trust_domain == TrustDomain("cluster.local")
    assert config.policy.default_lifetime == timedelta(hours=24)
    assert config.policy.maximum_lifetime == timedelta(days=90)
    assert str(config.listen.address) == "0.0.0.0:15012"


def test_cluster_asks_for_token_reviews_unless_told_otherwise(load: Load) -> None:
    """A cluster without authenticators proves tokens by TokenReview with the pod's own account."""
    assert load().clusters[0].authenticators == (TokenReview(type="token_review"),)


def test_configuration_cannot_be_changed(load: Load) -> None:
    """A loaded configuration is read-only."""
    with pytest.raises(ValidationError, match="frozen"):
        load().policy.default_lifetime = timedelta(1)


def test_at_sign_in_trust_domain_is_a_dot(load: Load) -> None:
    """A trust domain is read as Istio's mesh configuration writes it."""
    assert load(trust_domain="a@b").trust_domain == TrustDomain("a.b")


@pytest.mark.parametrize(
    ("policy", "over_maximum"),
    [
        ({}, "reject"),
        ({"maximum_lifetime": "24h"}, "reject"),
        ({"maximum_lifetime": "1h", "default_lifetime": "1h"}, "clamp"),
        ({"maximum_lifetime": "1h", "default_lifetime": "1h", "over_maximum": "reject"}, "reject"),
        ({"over_maximum": "clamp"}, "clamp"),
    ],
)
def test_over_maximum_clamps_only_below_a_day(
    load: Load, policy: dict[str, str], over_maximum: str
) -> None:
    """A longer wish is refused as istiod does, unless every Istio client would be refused."""
    assert load(policy=policy).policy.over_maximum == over_maximum


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (
            {"default_lifetime": "19m"},
            "default_lifetime at least 10 times backdate, so 20m or more",
        ),
        ({"backdate": "3h"}, "from 0s to 1h"),
        ({"default_lifetime": "91d"}, "default_lifetime (91d) at most maximum_lifetime (90d)"),
        ({"min_rsa_bits": 4096, "max_rsa_bits": 2048}, "min_rsa_bits at most max_rsa_bits"),
        ({"max_rsa_bits": 1024}, "greater than or equal to 2048"),
        ({"min_rsa_bits": 1024}, "greater than or equal to 2048"),
        ({"key_algorithms": []}, "at least one"),
        ({"key_algorithms": ["dsa"]}, "'rsa', 'p256', 'p384' or 'ed25519'"),
    ],
)
def test_policy_that_breaks_a_rule_is_refused(
    problems: Problems, policy: dict[str, object], words: str
) -> None:
    """Lifetimes, backdate and key sizes must fit each other, and the problem says how."""
    (problem,) = problems(policy=policy)
    assert words in problem


def test_metadata_is_refused_softly_before_it_is_refused_hard(problems: Problems) -> None:
    """The soft bound of headers is not over the hard one."""
    (problem,) = problems(limits={"metadata_soft_bytes": "64KiB"})
    assert "metadata_soft_bytes at most metadata_hard_bytes" in problem


@pytest.mark.parametrize(
    ("clusters", "words"),
    [
        ([], "at least one"),
        (
            [
                {"id": "a"},
                {"id": "a", "authenticators": [{"type": "token_review", "kubeconfig": "k"}]},
            ],
            "each id and alias once ('a' is there 2 times)",
        ),
        ([{"id": "a", "aliases": ["a"]}], "each id and alias once"),
        (
            [
                {"id": "a", "local": True},
                {
                    "id": "b",
                    "local": True,
                    "authenticators": [{"type": "token_review", "kubeconfig": "k"}],
                },
            ],
            "at most one local cluster (a, b say they are)",
        ),
        ([{"id": "a"}, {"id": "b"}], "a kubeconfig for all but one token_review (a, b"),
        ([{"id": "a", "authenticators": []}], "at least one"),
        ([{"id": "a", "namespaces": []}], "at least one"),
    ],
)
def test_clusters_that_cannot_be_told_apart_are_refused(
    problems: Problems, clusters: list[object], words: str
) -> None:
    """Ids are unique, one cluster is local, and no two ask one API server for their tokens."""
    assert words in " ".join(problems(clusters=clusters))


@pytest.mark.parametrize(
    ("jwks", "words"),
    [
        (
            {"jwks_file": "a", "jwks_url": "https://a/keys"},
            "one source of keys, not jwks_file and jwks_url",
        ),
        (
            {"issuer": "kubernetes/serviceaccount"},
            "an https issuer, where its keys are discovered, or one of jwks_file",
        ),
        ({"jwks_url": "http://example.org/keys"}, "an https URL"),
        ({"audiences": []}, "at least one"),
        ({"algorithms": ["HS256"]}, "'RS256'"),
        ({"algorithms": ["none"]}, "'RS256'"),
        ({"issuer": ""}, "at least one character"),
    ],
)
def test_key_set_without_one_safe_source_is_refused(
    problems: Problems, jwks: dict[str, object], words: str
) -> None:
    """Keys come from one place, over https or from a file, for asymmetric algorithms alone."""
    authenticator = {"type": "jwks", "issuer": "https://a", **jwks}
    clusters = [{"id": "a", "authenticators": [authenticator]}]
    assert words in " ".join(problems(clusters=clusters))


def test_keys_are_discovered_at_the_issuer_unless_told_otherwise(load: Load) -> None:
    """A jwks authenticator with an https issuer needs no other source."""
    authenticator = {"type": "jwks", "issuer": "https://a"}
    (jwks,) = (
        load(clusters=[{"id": "a", "authenticators": [authenticator]}]).clusters[0].authenticators
    )
    assert isinstance(jwks, Jwks)
    assert (jwks.jwks_file, jwks.jwks_url) == (None, None)


def test_environment_wins_over_the_file(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable replaces the file's value and leaves the rest of its section."""
    monkeypatch.setenv("MESHSIGNER_POLICY__DEFAULT_LIFETIME", "12h")
    monkeypatch.setenv("MESHSIGNER_POLICY__KEY_ALGORITHMS", '["p256"]')
    policy = load(policy={"default_lifetime": "6h", "maximum_lifetime": "7d"}).policy
    assert policy.default_lifetime == timedelta(hours=12)
    assert policy.maximum_lifetime == timedelta(days=7)
    assert policy.key_algorithms == {"p256"}
