"""Settings become the parts of a server."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from meshsigner.app.callers import authenticator_of
from meshsigner.app.parts import (
    issuance_limits_of,
    policy_of,
    wire_limits_of,
)
from meshsigner.app.stores import inventory_of
from meshsigner.config import Config, parse_config
from meshsigner.config.sections import Limits as LimitsSection
from meshsigner.errors import ConfigurationError, RecordFailed
from meshsigner.inventory.files import worker_file
from meshsigner.issuance import IssuanceLimits
from meshsigner.model import KeyAlgorithm
from meshsigner.rpc.limits import Limits
from meshsigner.spiffe import TrustDomain

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that reads a small configuration with changed sections."""

    def load(**changes: object) -> Config:
        keys = {"type": "jwks", "issuer": "https://a", "jwks_file": "jwks.json"}
        values = {
            "trust_domain": "cluster.local",
            "clusters": [{"id": "a", "authenticators": [keys]}],
            "issuer": {"type": "self_made", "path": str(tmp_path / "ca")},
            "listen": {"tls": {"type": "issuer", "dns_names": ["a.svc"]}},
        }
        return parse_config(yaml.safe_dump({**values, **changes}))

    return load


def test_default_limits_are_those_of_the_code() -> None:
    """The documented defaults of all bounds are the ones that the parts have by themselves."""
    assert wire_limits_of(LimitsSection()) == Limits()
    assert issuance_limits_of(LimitsSection()) == IssuanceLimits()


@pytest.mark.parametrize(("mib", "fits"), [(1, False), (3, True)])
def test_files_of_workers_count_within_the_bound(
    load: Load, tmp_path: Path, mib: int, *, fits: bool
) -> None:
    """A server of one process may write only what workers' files of before have left."""
    path = tmp_path / "inventory.db"
    worker_file(path, 0).write_bytes(bytes(2 * 1024**2))
    inventory = inventory_of(load(inventory={"path": str(path), "max_bytes": f"{mib}MiB"}))
    if fits:
        inventory.probe()
    else:
        with pytest.raises(RecordFailed, match="has reached its size bound"):
            inventory.probe()
    inventory.close()


def test_policy_has_the_rules_of_its_section(load: Load) -> None:
    """Lifetimes, keys and generation arrive in the policy."""
    section = {"maximum_lifetime": "1h", "default_lifetime": "30m", "key_algorithms": ["p256"]}
    policy = policy_of(load(policy=section), 7)
    assert policy.lifetimes.default == timedelta(minutes=30)
    assert policy.lifetimes.clamp
    assert policy.key_algorithms == {KeyAlgorithm.P256}
    assert policy.generation == 7


def test_policy_issues_for_the_trust_domains_of_all_clusters(load: Load) -> None:
    """A cluster with a trust domain of its own is served, too."""
    keys = {"type": "jwks", "issuer": "https://a"}
    clusters = [{"id": "a", "trust_domain": "a.example", "authenticators": [keys]}]
    domains = policy_of(load(clusters=clusters), 1).trust_domains
    assert domains == {TrustDomain("cluster.local"), TrustDomain("a.example")}


def test_problems_of_all_clusters_are_told_at_once(load: Load, tmp_path: Path) -> None:
    """Each authenticator that cannot be made is named with its cluster."""
    missing = {"type": "token_review", "kubeconfig": str(tmp_path / "none")}
    with pytest.raises(ConfigurationError) as caught:
        authenticator_of(
            load(
                clusters=[
                    {"id": "a", "authenticators": [{"type": "token_review"}]},
                    {"id": "b", "authenticators": [missing]},
                ],
            ),
        )
    told = str(caught.value)
    assert "cluster a, token_review: KUBERNETES_SERVICE_HOST" in told
    assert "cluster b, token_review: " in told


@pytest.mark.parametrize(
    "source",
    [
        {"jwks_file": "keys.json"},
        {"jwks_url": "https://a/keys"},
        {"issuer": "https://a"},
    ],
)
def test_keys_come_from_where_the_settings_say(load: Load, source: dict[str, str]) -> None:
    """A file, a URL and discovery each make an authenticator of that cluster."""
    keys = {"type": "jwks", "issuer": "https://a", **source}
    authenticator = authenticator_of(load(clusters=[{"id": "a", "authenticators": [keys]}]))
    (health,) = authenticator.health()
    assert "a" in health.name
    assert not health.ready
