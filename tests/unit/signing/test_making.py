"""Tests of what self-made CA and serving certificates look like."""

from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from meshsigner.signing.making import (
    build_intermediate,
    build_root,
    build_serving,
    new_key,
    render_certificate,
    render_key,
)
from meshsigner.spiffe import TrustDomain
from tests.fakes.authority import NOW, Ca, Shape, is_signed_by, make_ca, make_key

TRUST_DOMAIN = TrustDomain.parse("cluster.local")
YEAR = timedelta(days=365)


@pytest.fixture(scope="module")
def root() -> Ca:
    """Return a self-made root."""
    key = new_key()
    lifetime = 10 * YEAR
    certificate = build_root(key, trust_domain=TRUST_DOMAIN, now=NOW, lifetime=lifetime)
    return Ca(certificate=certificate, key=key)


@pytest.fixture(scope="module")
def intermediate(root: Ca) -> Ca:
    """Return a self-made intermediate below it."""
    return make_intermediate(root)


def make_intermediate(root: Ca, lifetime: timedelta = YEAR) -> Ca:
    """Make another intermediate."""
    key = new_key()
    certificate = build_intermediate(
        key,
        root=root.certificate,
        root_key=root.key,
        trust_domain=TRUST_DOMAIN,
        now=NOW,
        lifetime=lifetime,
    )
    return Ca(certificate=certificate, key=key)


def value_of(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension:  # type: ignore[type-arg]
    """Return an extension."""
    return certificate.extensions.get_extension_for_class(kind)


@pytest.mark.parametrize(("which", "path_length"), [("root", 1), ("intermediate", 0)])
def test_statement_33_ca_profile(root: Ca, intermediate: Ca, which: str, path_length: int) -> None:
    """Both are P-256 CAs with critical constraints and usages, a path length and a key id."""
    certificate = {"root": root, "intermediate": intermediate}[which].certificate
    constraints = value_of(certificate, x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
    usage = value_of(certificate, x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign) == (True, True)
    assert not usage.value.digital_signature
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    key_id = value_of(certificate, x509.SubjectKeyIdentifier).value
    assert key_id == x509.SubjectKeyIdentifier.from_public_key(key)
    assert is_signed_by(certificate, root.key)


def test_intermediate_names_its_issuer(root: Ca, intermediate: Ca) -> None:
    """Issuer name and authority key id are the root's."""
    authority = value_of(intermediate.certificate, x509.AuthorityKeyIdentifier).value
    key_id = value_of(root.certificate, x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == key_id.digest
    assert intermediate.certificate.issuer == root.certificate.subject


def test_names_tell_cas_apart(root: Ca, intermediate: Ca) -> None:
    """The organization is the trust domain, as in istiod's root; no two CAs share a name."""
    others = [make_intermediate(root) for _ in range(3)]
    subjects = [ca.certificate.subject for ca in (root, intermediate, *others)]
    assert len(set(subjects)) == len(subjects)
    for subject in subjects:
        (organization,) = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        assert organization.value == "cluster.local"


def test_long_trust_domain_is_cut() -> None:
    """An organization has at most 64 characters; a trust domain may have 255."""
    domain = TrustDomain.parse("a" * 200)
    certificate = build_root(new_key(), trust_domain=domain, now=NOW, lifetime=YEAR)
    (organization,) = certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert organization.value == "a" * 64


def test_validity(root: Ca, intermediate: Ca) -> None:
    """Validity starts an hour ago, before any backdated leaf, and lasts the lifetime."""
    assert root.certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    assert root.certificate.not_valid_after_utc == NOW + 10 * YEAR
    assert intermediate.certificate.not_valid_after_utc == NOW + YEAR


def test_intermediate_never_outlives_its_root(root: Ca) -> None:
    """A longer lifetime is cut at the root's end."""
    long = make_intermediate(root, 20 * YEAR)
    assert long.certificate.not_valid_after_utc == root.certificate.not_valid_after_utc


def test_keys_are_plain_pkcs8() -> None:
    """A key's file is PKCS #8 PEM without a password."""
    key = new_key()
    pem = render_key(key)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    loaded = load_pem_private_key(pem, None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert loaded.private_numbers() == key.private_numbers()


def test_certificates_end_with_one_newline(root: Ca) -> None:
    """Concatenated, they stay PEM."""
    assert render_certificate(root.certificate).endswith(b"-----END CERTIFICATE-----\n")


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_statement_47_serving_certificate_verifies_by_name_and_address(kind: str) -> None:
    """With every kind of CA, TLS clients accept it for each of its names."""
    root = make_ca("root")
    issuer = make_ca("issuer", issuer=root, key=make_key(kind))
    addresses = [ip_address("127.0.0.1"), ip_address("::1")]
    leaf = build_serving(
        new_key().public_key(),
        issuer=issuer.certificate,
        issuer_key=issuer.key,
        names=["localhost", "istiod.istio-system.svc", *addresses],
        validity=(NOW, NOW + timedelta(days=1)),
    )
    policy = PolicyBuilder().store(Store([root.certificate])).time(NOW)
    for host in ("localhost", "istiod.istio-system.svc"):
        verifier = policy.build_server_verifier(x509.DNSName(host))
        assert verifier.verify(leaf, [issuer.certificate])
    for address in addresses:
        verifier = policy.build_server_verifier(x509.IPAddress(address))
        assert verifier.verify(leaf, [issuer.certificate])
    usage = value_of(leaf, x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_issuer_without_key_id_is_not_named() -> None:
    """Under a CA without subject key id there is no authority key id, as with workloads."""
    issuer = make_ca("issuer", shape=Shape(key_id=False))
    leaf = build_serving(
        new_key().public_key(),
        issuer=issuer.certificate,
        issuer_key=issuer.key,
        names=["localhost"],
        validity=(NOW, NOW + timedelta(days=1)),
    )
    with pytest.raises(x509.ExtensionNotFound):
        value_of(leaf, x509.AuthorityKeyIdentifier)
