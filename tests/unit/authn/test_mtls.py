"""Callers proven by their certificate, and what stands behind it."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from meshsigner.authn.denied import DenyList
from meshsigner.authn.mtls import PROXY_BELIEVED_FOR, CertificateAuthenticator, CertificateRules
from meshsigner.errors import Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials
from meshsigner.spiffe import SpiffeId, TrustDomain
from tests.fakes.authority import NOW
from tests.fakes.client_certificates import IDENTITY, Made, Mesh, forwarded
from tests.fakes.pipeline import FakeAuthenticator

_PROXY = "spiffe://cluster.local/ns/istio-system/sa/proxy"
_RULES = CertificateRules(trust_domains=frozenset({TrustDomain("cluster.local")}))


class _World:
    """An authenticator whose world a test changes."""

    def __init__(self, rules: CertificateRules = _RULES, denied: DenyList | None = None) -> None:
        self.mesh = Mesh()
        self.issuer = self.mesh.issuer
        self.checks = 0
        self.authenticator = CertificateAuthenticator(
            issuer=lambda _: self.issuer,
            rules=rules,
            denied=denied or DenyList(None),
            tokens=FakeAuthenticator(),
        )

    def identify(
        self,
        peer: Made | None = None,
        header: tuple[str, ...] | None = None,
        *,
        token: str | None = None,
        later: timedelta = timedelta(),
    ) -> Caller:
        credentials = Credentials(
            bearer_token=token,
            peer_chain_pem=peer.chain_pem if peer else b"",
            forwarded=header,
        )
        found = self.authenticator.identify(credentials, NOW + later)
        assert isinstance(found, Caller)
        return found

    def refusal(self, *args: object, **kwargs: object) -> str:
        with pytest.raises(Unauthenticated) as refused:
            self.identify(*args, **kwargs)  # type: ignore[arg-type]
        return str(refused.value)


def test_a_certificate_proves_its_caller() -> None:
    """No cluster vouches for it, and its serial number is the credential."""
    world = _World()
    made = world.mesh.leaf()
    found = world.identify(made)
    assert found.identity.uri == IDENTITY
    assert found.auth_method is AuthMethod.CLIENT_CERTIFICATE
    assert (found.cluster, found.credential_id, found.pod_uid) == ("", made.serial, "")


def test_statement_39_the_certificate_comes_before_the_token() -> None:
    """With both, the certificate says who calls."""
    world = _World()
    assert world.identify(world.mesh.leaf(), token="foo/other/p").identity.uri == IDENTITY


def test_a_token_does_not_make_a_bad_certificate_good() -> None:
    """Who shows a certificate is judged by it alone."""
    world = _World()
    assert "no path" in world.refusal(Mesh().leaf(), token="foo/other/p")
    assert world.refusal(world.mesh.leaf(), ("nonsense",), token="foo/other/p")


def test_without_a_certificate_the_token_counts() -> None:
    """On every kind of listener."""
    world = _World()
    for header in (None, ()):
        found = world.identify(header=header, token="foo/other/p")
        assert found.identity.service_account == "other"
    assert "token" in world.refusal(header=())


def test_statement_41_another_trust_domain_is_refused() -> None:
    """Also under our own roots."""
    world = _World()
    made = world.mesh.leaf(uris=["spiffe://other.domain/ns/foo/sa/vm"])
    assert "other.domain" in world.refusal(made)


def test_an_identity_that_is_no_service_account_is_refused() -> None:
    """A SPIFFE ID of another form is nobody that we certify."""
    world = _World()
    assert "no service account" in world.refusal(world.mesh.leaf(uris=["spiffe://cluster.local/a"]))


def test_namespaces_bound_who_renews_by_certificate() -> None:
    """The others need a token."""
    rules = dataclasses.replace(_RULES, namespaces=frozenset({"vms"}))
    world = _World(rules)
    assert "namespace" in world.refusal(world.mesh.leaf())
    made = world.mesh.leaf(uris=["spiffe://cluster.local/ns/vms/sa/vm"])
    assert world.identify(made).identity.namespace == "vms"


def test_a_denied_certificate_is_refused(tmp_path: Path) -> None:
    """From the moment the list says so, with a token or without."""
    path = tmp_path / "denied"
    path.write_text("")
    denied = DenyList(path)
    world = _World(denied=denied)
    made = world.mesh.leaf()
    assert world.identify(made).credential_id == made.serial
    path.write_text(made.serial)
    denied.reload()
    assert "denied" in world.refusal(made, token="foo/other/p")
    assert "denied" in world.refusal(None, (forwarded(made),))
    assert world.identify(world.mesh.leaf()).identity.uri == IDENTITY


def test_a_forwarded_certificate_proves_its_caller() -> None:
    """On a listener that believes its proxy, named as such."""
    world = _World()
    found = world.identify(header=(forwarded(world.mesh.leaf()),))
    assert found.identity.uri == IDENTITY
    assert found.auth_method is AuthMethod.FORWARDED_CERTIFICATE


def test_the_chain_of_a_forwarded_certificate_is_checked_here() -> None:
    """A proxy's word is not enough."""
    world = _World()
    late = world.mesh.leaf(not_after=NOW - timedelta(seconds=1))
    for made in (Mesh().leaf(), late):
        assert "no path" in world.refusal(header=(forwarded(made),))


def test_the_header_means_nothing_where_no_proxy_is_believed() -> None:
    """`forwarded` is None there, whatever was sent."""
    assert "token" in _World().refusal()


def test_only_the_pinned_proxy_may_forward() -> None:
    """Not another workload of the mesh, not the caller itself, and not for tokens either."""
    world = _World(dataclasses.replace(_RULES, proxy=SpiffeId.parse(_PROXY)))
    proxy, other = world.mesh.leaf(uris=[_PROXY]), world.mesh.leaf()
    header = (forwarded(other),)
    assert world.identify(proxy, header).identity.uri == IDENTITY
    assert world.identify(proxy, (), token="foo/bar/p").identity.service_account == "bar"
    assert "not the proxy" in world.refusal(other, header)
    assert "not the proxy" in world.refusal(other, (), token="foo/bar/p")
    assert world.refusal(None, header)
    assert "no path" in world.refusal(Mesh().leaf(uris=[_PROXY]), header)


def test_a_proxy_is_checked_anew_after_a_moment_and_under_new_roots() -> None:
    """What was found out about it holds for seconds, and for the issuer of that moment."""
    world = _World(dataclasses.replace(_RULES, proxy=SpiffeId.parse(_PROXY)))
    proxy = world.mesh.leaf(uris=[_PROXY], not_after=NOW + timedelta(seconds=1))
    assert world.identify(proxy, (), token="foo/bar/p").cluster == "Kubernetes"
    assert "no path" in world.refusal(proxy, (), token="foo/bar/p", later=PROXY_BELIEVED_FOR)
    world.issuer = Mesh("new").issuer
    assert "no path" in world.refusal(proxy, (), token="foo/bar/p")


def test_health_tells_of_the_list_and_of_tokens() -> None:
    """Both parts are shown."""
    names = [part.name for part in _World().authenticator.health()]
    assert names == ["authn/client_certificates", "authn/fake"]
