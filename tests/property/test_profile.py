"""The template's certificates equal what cryptography's builder makes."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsigner.csr import parse_csr
from meshsigner.model import Issuer, Order, Terms
from meshsigner.profile import Template
from meshsigner.spiffe import TrustDomain, WorkloadId
from tests.fakes.pipeline import (
    NOW,
    CaKey,
    FakeSigner,
    make_ca_certificate,
    make_caller,
    make_csr,
    make_issuer,
)

_CA_KEYS: dict[str, CaKey] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
}
_ISSUERS: dict[tuple[str, bool], Issuer] = {
    (kind, with_key_id): make_issuer(make_ca_certificate(key, "ca", with_key_id=with_key_id))
    for kind, key in _CA_KEYS.items()
    for with_key_id in (True, False)
}
_LEAF_KEYS: list[CaKey] = [
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
    rsa.generate_private_key(public_exponent=65537, key_size=3072),
]
_REQUESTS = [parse_csr(make_csr(key)) for key in _LEAF_KEYS]

_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
_trust_domains = st.from_regex(r"[a-z0-9._-]{1,255}", fullmatch=True).map(TrustDomain.parse)
_accounts = st.lists(_labels, min_size=1, max_size=3).map(".".join)
_seconds = st.integers(min_value=631_152_000, max_value=4_070_908_800)  # 1990 to 2099


@st.composite
def _orders(draw: st.DrawFn) -> tuple[str, Order]:
    kind = draw(st.sampled_from(sorted(_CA_KEYS)))
    identity = WorkloadId.of(draw(_trust_domains), draw(_labels), draw(_accounts))
    not_before = datetime.fromtimestamp(draw(_seconds), UTC)
    with_common_name = draw(st.booleans()) and len(identity.uri) <= 64
    terms = Terms(
        identity=identity,
        common_name=identity.uri if with_common_name else None,
        not_before=not_before,
        not_after=not_before + timedelta(seconds=draw(st.integers(1, 10**8))),
        policy_generation=1,
    )
    order = Order(
        caller=make_caller(),
        request=draw(st.sampled_from(_REQUESTS)),
        terms=terms,
        cert_signer="",
        issuer=_ISSUERS[kind, draw(st.booleans())],
        peer="",
    )
    return kind, order


def _built(order: Order, serial: int, key: CaKey) -> bytes:
    """Build the same with cryptography, extension by extension."""
    terms, issuer = order.terms, order.issuer.certificate
    names = (
        [x509.NameAttribute(NameOID.COMMON_NAME, terms.common_name)] if terms.common_name else []
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(x509.Name(names))
        .serial_number(serial)
        .not_valid_before(terms.not_before)
        .not_valid_after(terms.not_after)
        .public_key(load_der_public_key(order.request.public_key.spki_der))  # type: ignore[arg-type]
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    try:
        ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        pass
    else:
        authority = x509.AuthorityKeyIdentifier(ski, None, None)
        builder = builder.add_extension(authority, critical=False)
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(terms.identity.uri)])
    is_p384 = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1"
    digest = hashes.SHA384() if is_p384 else hashes.SHA256()
    return builder.add_extension(san, critical=True).sign(key, digest).tbs_certificate_bytes


@settings(max_examples=300, deadline=None)
@given(drawn=_orders(), serial=st.integers(min_value=1, max_value=2**159 - 1))
def test_a_template_encodes_what_the_builder_builds(drawn: tuple[str, Order], serial: int) -> None:
    """Any terms, key and serial encode to the same TBSCertificate, byte for byte."""
    kind, order = drawn
    tbs = Template.of(order.issuer).build_tbs(order, serial)
    assert tbs == _built(order, serial, _CA_KEYS[kind])


@pytest.mark.parametrize("kind", sorted(_CA_KEYS))
def test_an_assembled_certificate_verifies_under_its_issuer(kind: str) -> None:
    """Template, signature and issuer make a certificate that cryptography accepts."""
    signer = FakeSigner(_CA_KEYS[kind])
    order = Order(
        caller=make_caller(),
        request=_REQUESTS[0],
        terms=Terms(
            identity=make_caller().identity,
            common_name=None,
            not_before=NOW,
            not_after=NOW + timedelta(hours=1),
            policy_generation=1,
        ),
        cert_signer="",
        issuer=signer.current,
        peer="",
    )
    leaf = x509.load_der_x509_certificate(signer.sign(order).leaf_der)
    leaf.verify_directly_issued_by(signer.current.certificate)
    assert leaf.version is x509.Version.v3


def test_an_issuer_with_another_key_has_no_template() -> None:
    """An Ed25519 CA is refused, for not every client of Istio verifies it."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")])
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(name)
        .subject_name(name)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .public_key(key.public_key())
        .sign(key, None)
    )
    with pytest.raises(ValueError, match="RSA, P-256 or P-384"):
        Template.of(make_issuer(certificate))
