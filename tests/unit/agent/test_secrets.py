"""The secrets of a workload: names, versions, bodies, and who is told of a change."""

from datetime import timedelta

import pytest

from meshsigner._proto.envoy.extensions.private_key_providers.cryptomb.v3alpha.cryptomb_pb2 import (
    CryptoMbPrivateKeyMethodConfig,
)
from meshsigner._proto.envoy.extensions.private_key_providers.qat.v3alpha.qat_pb2 import (
    QatPrivateKeyMethodConfig,
)
from meshsigner._proto.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import (
    Secret,
    SPIFFECertValidatorConfig,
)
from meshsigner.agent.secrets import KeyProvider, SecretStore
from meshsigner.spiffe import SpiffeId
from tests.fakes.workload_ca import make_svid

IDENTITY = SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/productpage")
CERTIFICATES = {"default", str(IDENTITY)}
ROOTS = {"ROOTCA", "spiffe://cluster.local", "ALL"}


def _store(**settings: object) -> SecretStore:
    return SecretStore(IDENTITY, **settings)  # type: ignore[arg-type]


def _body(store: SecretStore, name: str) -> Secret:
    return Secret.FromString(store.current[name].body)


def test_statement_63_all_names_are_there_before_anything_is() -> None:
    """Istio's names and SPIRE's can be asked for at once; there is nothing under them yet."""
    store = _store()
    assert set(store.names) == CERTIFICATES | ROOTS
    assert store.current == {}


def test_statement_63_every_name_has_a_secret_once_there_is_a_certificate() -> None:
    """One certificate fills all of them, roots before keys."""
    store = _store()
    store.take(make_svid())
    assert set(store.current) == set(store.names)
    assert set(list(store.current)[:3]) == ROOTS


@pytest.mark.parametrize("name", sorted(CERTIFICATES))
def test_statement_67_key_and_certificate_are_in_one_secret(name: str) -> None:
    """Both come together, and the name is the one that was asked for (statement 64)."""
    store = _store()
    store.take(make_svid("my key", "my leaf"))
    body = _body(store, name)
    assert body.name == name
    assert body.tls_certificate.private_key.inline_bytes == b"my key"
    assert body.tls_certificate.certificate_chain.inline_bytes == b"my leaf"


@pytest.mark.parametrize("name", ["ROOTCA", "spiffe://cluster.local"])
def test_statement_70_roots_come_without_san_matchers(name: str) -> None:
    """Trust anchors and nothing else: whom to believe beyond that is Istio's to say."""
    store = _store()
    store.take(make_svid(roots="my roots"))
    context = _body(store, name).validation_context
    assert context.trusted_ca.inline_bytes == b"my roots"
    assert [field.name for field, _ in context.ListFields()] == ["trusted_ca"]


def test_all_binds_roots_to_their_trust_domain() -> None:
    """`ALL` is for Envoy's SPIFFE validator, as SPIRE makes it."""
    store = _store()
    store.take(make_svid(roots="my roots"))
    context = _body(store, "ALL").validation_context
    assert context.custom_validator_config.name == "envoy.tls.cert_validator.spiffe"
    config = SPIFFECertValidatorConfig()
    assert context.custom_validator_config.typed_config.Unpack(config)
    (domain,) = config.trust_domains
    assert (domain.name, domain.trust_bundle.inline_bytes) == ("cluster.local", b"my roots")


def test_statement_70_crl_stands_beside_the_roots() -> None:
    """A CRL is in the same context as the roots; taking it away takes it away."""
    store = _store(with_crl=True)
    store.take(make_svid())
    without = dict(store.versions)
    store.take_crl(b"my crl")
    assert _body(store, "ROOTCA").validation_context.crl.inline_bytes == b"my crl"
    assert store.versions["ROOTCA"] != without["ROOTCA"]
    assert store.versions["default"] == without["default"]
    store.take_crl(b"")
    assert not _body(store, "ROOTCA").validation_context.HasField("crl")
    assert store.versions == without


def test_where_a_crl_may_come_there_is_no_all() -> None:
    """Envoy's SPIFFE validator looks at no CRL, so that it would let revoked peers in."""
    assert "ALL" not in _store(with_crl=True).names


@pytest.mark.parametrize(
    ("name", "message"),
    [("cryptomb", CryptoMbPrivateKeyMethodConfig()), ("qat", QatPrivateKeyMethodConfig())],
)
def test_key_provider_takes_the_key(
    name: str, message: CryptoMbPrivateKeyMethodConfig | QatPrivateKeyMethodConfig
) -> None:
    """With a provider the key is in its configuration and nowhere else, as istio-agent sends it."""
    provider = KeyProvider(name=name, poll_delay=timedelta(milliseconds=10), fallback=True)
    store = _store(key_provider=provider)
    store.take(make_svid("my key"))
    certificate = _body(store, "default").tls_certificate
    assert not certificate.HasField("private_key")
    found = certificate.private_key_provider
    assert (found.provider_name, found.fallback) == (name, True)
    assert found.typed_config.Unpack(message)
    assert message.private_key.inline_bytes == b"my key"
    assert message.poll_delay.ToTimedelta() == timedelta(milliseconds=10)


def test_statement_64_version_changes_with_the_content_alone() -> None:
    """Same content, same version, in this process and the next; other content, another one."""
    one, other = _store(), _store()
    for store in (one, other):
        store.take(make_svid())
    assert one.versions == other.versions
    before = dict(one.versions)
    one.take(make_svid(key="other key", leaf="other leaf"))
    changed = {name for name in one.versions if one.versions[name] != before[name]}
    assert changed == CERTIFICATES


def test_statement_66_roots_change_independently() -> None:
    """New roots leave the certificate's version alone."""
    store = _store()
    store.take(make_svid())
    before = dict(store.versions)
    store.take(make_svid(roots="old and new"))
    changed = {name for name in store.versions if store.versions[name] != before[name]}
    assert changed == ROOTS


def test_version_gives_no_key_away() -> None:
    """A version is made of what is public, so that it can stand in logs."""
    one, other = _store(), _store()
    one.take(make_svid(key="one"))
    other.take(make_svid(key="other"))
    assert one.versions == other.versions


def test_version_depends_on_where_the_key_is_used() -> None:
    """A provider in place of the key is other content."""
    plain = _store()
    provider = _store(key_provider=KeyProvider(name="qat", poll_delay=timedelta(milliseconds=1)))
    for store in (plain, provider):
        store.take(make_svid())
    assert plain.versions["default"] != provider.versions["default"]


def test_listeners_are_told_of_changes_alone() -> None:
    """Nobody is woken when the same content comes again."""
    store, told = _store(), []
    stop = store.listen(lambda: told.append(1))
    store.take(make_svid())
    store.take(make_svid())
    assert len(told) == 1
    store.withdraw()
    stop()
    stop()
    store.take(make_svid())
    assert len(told) == 2


def test_expired_certificate_is_offered_no_more_its_roots_are() -> None:
    """Without a certificate a peer can still be judged."""
    store = _store()
    store.take(make_svid())
    store.withdraw()
    assert set(store.current) == ROOTS
    assert store.svid is None


def test_crl_alone_is_nothing_to_offer() -> None:
    """A CRL that comes before the first certificate waits for the roots."""
    store = _store(with_crl=True)
    store.take_crl(b"my crl")
    assert store.current == {}
