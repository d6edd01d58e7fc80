"""Settings become the clusters whose callers are believed, remote ones too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshsigner.app.callers import authenticator_of
from meshsigner.app.parts import policy_of
from meshsigner.authn.node import ClusterNodes
from meshsigner.authn.remote_clusters import RemoteClusters
from meshsigner.authn.token_review import TokenReviewAuthenticator
from meshsigner.config import Config, parse_config
from meshsigner.errors import ConfigurationError
from meshsigner.kube import Connection, TlsFiles
from meshsigner.spiffe import TrustDomain

Load = Callable[..., Config]
STATED = {"trust_domain": "west.example", "namespaces": ["foo"]}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that reads a configuration with remote clusters."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"server": "https://127.0.0.1:1"}
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "x",
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )

    def load(*allowed: dict[str, Any], **changes: object) -> Config:
        keys = {"type": "jwks", "issuer": "https://a", "jwks_file": "jwks.json"}
        remote = {"kubeconfig": str(kubeconfig), "allowed": list(allowed), **changes}
        values = {
            "trust_domain": "cluster.local",
            "clusters": [{"id": "a", "aliases": ["b"], "authenticators": [keys]}],
            "remote_clusters": remote,
            "issuer": {"type": "self_made", "path": str(tmp_path / "ca")},
            "listen": {"tls": {"type": "issuer", "dns_names": ["a.svc"]}},
        }
        return parse_config(json.dumps(values))  # JSON is YAML, without aliases

    return load


def remote_of(config: Config, followed: dict[str, ClusterNodes] | None = None) -> RemoteClusters:
    """Return what follows the Secrets."""
    (remote,) = [
        part for part in authenticator_of(config, followed)._members if hasattr(part, "replaced")
    ]
    assert isinstance(remote, RemoteClusters)
    return remote


async def test_a_remote_cluster_is_as_its_section_says(load: Load) -> None:
    """Trust domain, namespaces, aliases, and authenticators at its own API server."""
    keys = {"type": "jwks", "issuer": "https://issuer"}
    review = {"type": "token_review", "audiences": ["istio-ca", "vault"]}
    config = load(
        {"id": "two", "aliases": ["zwei"], "authenticators": [review, keys], **STATED},
        {"id": "three", "trust_domain": "cluster.local", "namespaces": "*"},
    )
    remote = remote_of(config)
    source = Connection(server="https://two.example", tls=TlsFiles(ca=b""))
    two = remote._allowed["two"].build(source)
    assert (two.cluster_id, two.aliases, two.local) == ("two", ("zwei",), False)
    assert two.trust_domain == TrustDomain.parse("west.example")
    assert two.namespaces == frozenset({"foo"})
    by_review, by_keys = two.authenticators
    assert isinstance(by_review, TokenReviewAuthenticator)
    assert by_review._rules.audiences == ("istio-ca", "vault")
    assert "https://two.example/openid/v1/jwks" in by_keys._keys._source.where  # type: ignore[attr-defined]
    assert two.companions == ()
    three = remote._allowed["three"].build(source)
    assert three.namespaces is None
    for part in (*two.parts, *three.parts):
        await part.aclose()
    assert policy_of(config, 1).trust_domains == {
        TrustDomain.parse("cluster.local"),
        TrustDomain.parse("west.example"),
    }


async def test_nodes_of_a_remote_cluster_are_followed_while_it_is_there(load: Load) -> None:
    """Its agents may ask for others from its start to its end, within its own namespaces."""
    followed: dict[str, ClusterNodes] = {}
    nodes = {"accounts": ["istio-system/ztunnel"]}
    config = load({"id": "two", "node_authorization": nodes, **STATED})
    build = remote_of(config, followed)._allowed["two"].build
    cluster = build(Connection(server="https://127.0.0.1:1", tls=TlsFiles(ca=b"")))
    (pods,) = cluster.companions
    await pods.start()
    assert set(followed) == {"two"}
    assert followed["two"]._rules.namespaces == frozenset({"foo"})
    for part in cluster.parts:
        await part.aclose()
    assert followed == {}


@pytest.mark.parametrize(
    ("allowed", "problem"),
    [
        ([], "remote_clusters.allowed"),
        ([{"id": "two"}], "remote_clusters.allowed[0].trust_domain"),
        ([{"id": "two", "trust_domain": "a"}], "remote_clusters.allowed[0].namespaces"),
        ([{"id": "two", **STATED, "namespaces": []}], "remote_clusters.allowed[0].namespaces"),
        ([{"id": "two", **STATED, "namespaces": "all"}], "remote_clusters.allowed[0].namespaces"),
        ([{"id": "a", **STATED}], "a are taken"),
        ([{"id": "two", "aliases": ["b"], **STATED}], "b are taken"),
        ([{"id": "two", **STATED}, {"id": "two", **STATED}], "each id and alias once (two)"),
        (
            [{"id": "two", "authenticators": [{"type": "jwks"}], **STATED}],
            "remote_clusters.allowed[0].authenticators",
        ),
        (
            [
                {
                    "id": "two",
                    "authenticators": [{"type": "token_review", "kubeconfig": "/x"}],
                    **STATED,
                }
            ],
            "unknown key",
        ),
    ],
)
def test_what_a_remote_cluster_may_do_has_to_be_said(
    load: Load, allowed: list[dict[str, Any]], problem: str
) -> None:
    """Each problem is told with its place."""
    with pytest.raises(ConfigurationError) as caught:
        load(*allowed)
    assert problem in str(caught.value)


def test_secrets_that_cannot_be_reached_are_told(load: Load) -> None:
    """A kubeconfig that is not there stops the start."""
    config = load({"id": "two", **STATED}, kubeconfig="/nowhere/kubeconfig")
    with pytest.raises(ConfigurationError, match="remote_clusters: kubeconfig /nowhere"):
        authenticator_of(config)
