"""The backends of a server: opened from settings, started, announced and ended together."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.app.parts import policy_of
from meshsigner.app.problems import Problems
from meshsigner.app.signers import Backends, kind_of, surroundings_of
from meshsigner.config import Config, parse_config
from meshsigner.errors import ConfigurationError, NotReady
from meshsigner.model import Issuer
from meshsigner.observe.metrics import Metrics
from meshsigner.policy import SignerRule
from meshsigner.signing.issuers import issuer_of, with_announced
from tests.fakes.pipeline import FakeSigner, make_ca_certificate


def _now() -> datetime:
    return datetime.now(UTC)


def _config(**changes: Any) -> Config:
    keys = {"type": "jwks", "issuer": "https://a", "jwks_file": "jwks.json"}
    values = {
        "trust_domain": "cluster.local",
        "clusters": [{"id": "a", "authenticators": [keys]}],
        "listen": {"tls": {"type": "issuer", "dns_names": ["a.svc"]}},
        **changes,
    }
    return parse_config(yaml.safe_dump(values, sort_keys=False))


def _two(tmp_path: Path) -> Config:
    kinds = {name: {"type": "self_made", "path": str(tmp_path / name)} for name in ("one", "two")}
    return _config(backends=kinds)


def _backends(config: Config) -> Backends:
    return Backends(config, clock=_now, metrics=Metrics())


def test_the_one_ca_of_issuer_is_the_embedded_backend(tmp_path: Path) -> None:
    """A self-made CA is made at the first start; a directory of somebody else is never written."""
    config = _config(issuer={"type": "self_made", "path": str(tmp_path / "ca")})
    (signer,) = _backends(config).signers
    assert signer.name == "embedded"
    assert (tmp_path / "ca" / "ca-cert.pem").exists()
    other = tmp_path / "other"
    with pytest.raises(ConfigurationError):
        _backends(_config(issuer={"type": "directory", "path": str(other)}))
    assert not other.exists()


async def test_backends_hand_out_the_roots_of_all_their_own_first(tmp_path: Path) -> None:
    """After the start each issuer's bundle has its own root first and then the others'."""
    backends, problems = _backends(_two(tmp_path)), Problems()
    async with AsyncExitStack() as closing:
        await backends.start(closing, problems)
        problems.settle()
        one, two = (s.issuer(_now()).trust_bundle.certificates for s in backends.signers)
        assert len(one) == 2
        assert one == tuple(reversed(two))
        assert x509.load_pem_x509_certificates(backends.roots_pem()) == list(one)
        assert (
            backends.own_ca().current.issuer.certificate
            == backends.signers[0].issuer(_now()).certificate
        )


class _Rooted(FakeSigner):
    """A backend whose roots a test changes, or that is away."""

    def __init__(self, name: str, *roots: x509.Certificate) -> None:
        super().__init__(name=name)
        self.show(*roots)
        self.away = False

    def show(self, *roots: x509.Certificate) -> None:
        """Have these roots of its own."""
        self.current = issuer_of([self.current.certificate], roots, generation=1)

    def issuer(self, now: datetime) -> Issuer:
        """Return its issuer with what was announced, as a real one does."""
        if self.away:
            raise NotReady("away")
        del now
        return with_announced(self.current, self.announced)


def _root(name: str) -> x509.Certificate:
    return make_ca_certificate(ec.generate_private_key(ec.SECP256R1()), name)


def test_a_root_that_its_backend_has_dropped_is_handed_out_no_more(tmp_path: Path) -> None:
    """What was announced comes from nobody's own bundle once its owner has dropped it."""
    old, new, other = _root("old"), _root("new"), _root("other")
    backends, first, second = _backends(_two(tmp_path)), _Rooted("one", old), _Rooted("two", other)
    backends.signers = (first, second)
    for roots in ((old,), (old, new), (new, old), (new,)):
        first.show(*roots)
        backends.announce()
        assert first.issuer(_now()).trust_bundle.certificates == (*roots, other)
        assert second.issuer(_now()).trust_bundle.certificates == (other, *roots)
    assert x509.load_pem_x509_certificates(backends.roots_pem()) == [new, other]


def test_a_lone_backend_hands_out_what_its_ca_has_at_once(tmp_path: Path) -> None:
    """Nothing of its own earlier bundles is announced to it."""
    old, new = _root("old"), _root("new")
    backends, only = _backends(_two(tmp_path)), _Rooted("one", new, old)
    backends.signers = (only,)
    backends.announce()
    only.show(new)
    assert only.issuer(_now()).trust_bundle.certificates == (new,)


def test_roots_of_a_backend_that_is_away_stay_announced(tmp_path: Path) -> None:
    """Leaves under them are in use, so the others go on handing them out."""
    one, two = _Rooted("one", _root("a")), _Rooted("two", _root("b"))
    backends = _backends(_two(tmp_path))
    backends.signers = (one, two)
    backends.announce()
    before = two.issuer(_now()).trust_bundle
    one.away = True
    backends.announce()
    assert two.issuer(_now()).trust_bundle == before


def test_problems_of_all_backends_are_told_at_once(tmp_path: Path) -> None:
    """Two backends that cannot be opened make problems that name them."""
    broken = {n: {"type": "directory", "path": str(tmp_path / n)} for n in ("first", "second")}
    with pytest.raises(ConfigurationError) as caught:
        _backends(_config(backends=broken))
    text = str(caught.value)
    assert "backend first: " in text
    assert "backend second: " in text


def test_a_serving_certificate_needs_a_key_of_the_servers_own(tmp_path: Path) -> None:
    """Without a CA key in the process `tls.type: issuer` is a problem that says what to do."""
    backends = _backends(_two(tmp_path))
    backends.signers = ()
    with pytest.raises(ConfigurationError, match="expected type files"):
        backends.own_ca()


def test_rules_and_signer_names_come_from_the_settings(tmp_path: Path) -> None:
    """Rules keep their conditions; only the one CA of `issuer` takes no notice of signers."""
    kinds = {"one": {"type": "self_made", "path": str(tmp_path / "one")}}
    rules = [{"cert_signer": "gold", "namespace": "pay", "backends": ["one"]}]
    policy = policy_of(_config(backends=kinds, policy={"signers": rules}), 1)
    assert policy.signers == (SignerRule(cert_signer="gold", namespace="pay", backends=("one",)),)
    assert policy.names_signers
    single = _config(issuer={"type": "self_made", "path": str(tmp_path / "ca")})
    assert not policy_of(single, 1).names_signers


def test_surroundings_have_a_directory_for_each_backend(tmp_path: Path) -> None:
    """State lies beside the inventory, apart for each backend."""
    config = _two(tmp_path)
    one = surroundings_of(config, "one", clock=_now, metrics=Metrics())
    assert one.directory == config.inventory.path.parent / "backends" / "one"  # type: ignore[union-attr]
    assert kind_of(config.backends["one"]).type == "self_made"
