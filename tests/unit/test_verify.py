"""The edges of the check: what is expected byte for byte, bounds of serials, links of a path."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner import verify
from meshsigner.csr import parse_csr
from meshsigner.errors import WrongCertificate
from meshsigner.model import Chain, Issuer, Order, Terms
from meshsigner.profile import Template, tlv
from meshsigner.spiffe import WorkloadId
from meshsigner.verify import check_issued, check_issuer
from tests.fakes.pipeline import (
    NOW,
    TRUST_DOMAIN,
    FakeSigner,
    make_ca_certificate,
    make_caller,
    make_csr,
    make_issuer,
)

_KEY = ec.generate_private_key(ec.SECP256R1())
_REQUEST = parse_csr(make_csr(_KEY))
_FAR = datetime(2090, 1, 1, tzinfo=UTC)
_SERIAL = 1 << 120 | 12_345
_SIGNERS = {
    "p256": FakeSigner(not_after=_FAR),
    "p384": FakeSigner(ec.generate_private_key(ec.SECP384R1()), not_after=_FAR),
    "rsa": FakeSigner(
        rsa.generate_private_key(public_exponent=65537, key_size=2048), not_after=_FAR
    ),
}


def _order(
    signer: FakeSigner,
    *,
    account: str = "bar",
    not_before: datetime = NOW,
    not_after: datetime = NOW + timedelta(hours=1),
    common_name: str | None = None,
) -> Order:
    terms = Terms(
        identity=WorkloadId.of(TRUST_DOMAIN, "foo", account),
        common_name=common_name,
        not_before=not_before,
        not_after=not_after,
        policy_generation=1,
    )
    return Order(
        caller=make_caller(),
        request=_REQUEST,
        terms=terms,
        cert_signer="",
        issuer=signer.current,
        peer="",
    )


def _signed(signer: FakeSigner, order: Order, serial: int) -> Chain:
    """Sign with a chosen serial number."""
    chain = signer.sign(order)
    template = Template.of(signer.current)
    tbs = template.build_tbs(order, serial)
    assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
    signature = signer.key.sign(tbs, ec.ECDSA(verify._SHA256))
    return dataclasses.replace(chain, serial=serial, leaf_der=template.assemble(tbs, signature))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 254, 255, 256, 257, 65_535])
def test_lengths_are_written_with_the_fewest_octets(size: int) -> None:
    """The check's own encoding of lengths agrees with the profile's (X.690 10.1)."""
    assert verify._tlv(0x30, bytes(size)) == tlv(0x30, bytes(size))


_BEFORE_2050 = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
_FROM_2050 = datetime(2050, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("kind", sorted(_SIGNERS))
@pytest.mark.parametrize(
    "length", [1, 40, 46, 47, 48, 49, 50, 90, 170, 171, 172, 173, 174, 175, 250]
)
def test_own_certificates_are_what_is_expected_byte_for_byte(kind: str, length: int) -> None:
    """Names of every length that DER encodes differently take the short way through the check."""
    signer = _SIGNERS[kind]
    order = _order(signer, account="a" * length)
    chain = signer.sign(order)
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    expected = verify._expected_tbs(verify._issuer_facts(signer.current), order, chain.serial)
    assert expected == leaf.tbs_certificate_bytes
    check_issued(chain, order)


@pytest.mark.parametrize(
    ("not_before", "not_after"),
    [(NOW, _BEFORE_2050), (_BEFORE_2050, _FROM_2050), (_FROM_2050, _FAR)],
)
def test_years_from_2050_are_written_otherwise(not_before: datetime, not_after: datetime) -> None:
    """UTCTime up to 2049, GeneralizedTime from 2050 (RFC 5280 4.1.2.5), also as expected."""
    signer = _SIGNERS["p256"]
    order = _order(signer, not_before=not_before, not_after=not_after)
    chain = signer.sign(order)
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    expected = verify._expected_tbs(verify._issuer_facts(signer.current), order, chain.serial)
    assert expected == leaf.tbs_certificate_bytes
    assert leaf.not_valid_after_utc == not_after


def test_an_issuer_without_key_id_has_leaves_without_authority() -> None:
    """Where the issuer has no subject key identifier the leaf names none, as Go does it."""
    signer = FakeSigner()
    bare = make_ca_certificate(signer.key, "bare", with_key_id=False)
    signer.current = make_issuer(bare)
    order = _order(signer)
    chain = signer.sign(order)
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    expected = verify._expected_tbs(verify._issuer_facts(signer.current), order, chain.serial)
    assert expected == leaf.tbs_certificate_bytes
    check_issued(chain, order)


@pytest.mark.parametrize("bits", [65, 128, 159])
def test_statement_24_serials_within_bounds_pass(bits: int) -> None:
    """More than 64 bits and at most 20 octets with the sign bit clear."""
    signer = _SIGNERS["p256"]
    order = _order(signer)
    check_issued(_signed(signer, order, 1 << bits - 1), order)


@pytest.mark.parametrize("bits", [1, 64, 160])
def test_statement_24_serials_out_of_bounds_are_refused(bits: int) -> None:
    """A serial that could be guessed, or that is too long for RFC 5280, does not leave."""
    signer = _SIGNERS["p256"]
    order = _order(signer)
    with pytest.raises(WrongCertificate, match=f"serial of {bits} bits"):
        check_issued(_signed(signer, order, 1 << bits - 1), order)


def test_statement_22_a_leaf_may_end_with_its_issuer() -> None:
    """The last second of the issuer is a leaf's last second too, and not one more."""
    signer = FakeSigner(not_after=NOW + timedelta(hours=1))
    order = _order(signer)
    check_issued(signer.sign(order), order)


_ROOT_KEY, _MIDDLE_KEY, _CA_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
_ROOT = make_ca_certificate(_ROOT_KEY, "root")
_MIDDLE = make_ca_certificate(_MIDDLE_KEY, "middle", signed_by=(_ROOT, _ROOT_KEY), path_length=1)


def test_a_link_that_is_not_signed_by_the_next_is_named() -> None:
    """An issuer beside an intermediate that did not sign it is refused, both named."""
    issuer = make_ca_certificate(_CA_KEY, "issuer", signed_by=(_ROOT, _ROOT_KEY))
    broken = make_issuer(issuer, intermediates=(issuer, _MIDDLE), roots=(_ROOT,))
    with pytest.raises(WrongCertificate, match="O=issuer is not signed by O=middle"):
        check_issuer(broken, NOW)


def test_the_last_of_the_path_is_what_a_root_must_have_signed() -> None:
    """The text names the last certificate, and a path may end in a root itself."""
    issuer = make_ca_certificate(_CA_KEY, "issuer", signed_by=(_MIDDLE, _MIDDLE_KEY))
    other = make_ca_certificate(_CA_KEY, "other")
    with pytest.raises(WrongCertificate, match="O=middle is not signed by any root"):
        check_issuer(make_issuer(issuer, intermediates=(issuer, _MIDDLE), roots=(other,)), NOW)
    check_issuer(make_issuer(issuer, intermediates=(issuer, _MIDDLE, _ROOT), roots=(_ROOT,)), NOW)
    check_issuer(make_issuer(issuer, intermediates=(issuer, _MIDDLE), roots=(_ROOT, other)), NOW)


def test_a_trust_anchor_need_not_have_signed_itself() -> None:
    """A path may end in an anchor of the bundle that another CA, unknown here, has signed."""
    issuer = make_ca_certificate(_CA_KEY, "issuer", signed_by=(_MIDDLE, _MIDDLE_KEY))
    check_issuer(make_issuer(issuer, intermediates=(issuer, _MIDDLE), roots=(_MIDDLE,)), NOW)


def test_a_path_length_that_is_more_than_enough_passes() -> None:
    """A CA that allows more CAs below it than there are is fine."""
    roomy = make_ca_certificate(_MIDDLE_KEY, "m", signed_by=(_ROOT, _ROOT_KEY), path_length=5)
    issuer = make_ca_certificate(_CA_KEY, "issuer", signed_by=(roomy, _MIDDLE_KEY))
    check_issuer(make_issuer(issuer, intermediates=(issuer, roomy), roots=(_ROOT,)), NOW)


def _without_cert_sign(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """Make a CA certificate whose key usage is for CRLs alone."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, verify._SHA256)
    )


def test_statement_33_a_ca_that_may_not_sign_certificates_is_refused() -> None:
    """KeyUsage without keyCertSign makes no issuer."""
    issuer = make_issuer(_without_cert_sign(_CA_KEY, "crl only"))
    with pytest.raises(WrongCertificate, match="O=crl only may not sign certificates"):
        check_issuer(issuer, NOW)


def test_validity_counts_both_ends() -> None:
    """An issuer is valid from its first second to its last, not before and not after."""
    root = make_ca_certificate(_ROOT_KEY, "root")
    issuer = make_issuer(root)
    first, last = root.not_valid_before_utc, root.not_valid_after_utc
    for moment in (first, last):
        check_issuer(issuer, moment)
    for moment in (first - timedelta(seconds=1), last + timedelta(seconds=1)):
        with pytest.raises(WrongCertificate, match="O=root is not valid at"):
            check_issuer(issuer, moment)


def test_only_the_active_root_must_be_valid() -> None:
    """An old root that has expired may stay in the bundle behind the active one."""
    old = make_ca_certificate(_CA_KEY, "old", not_after=NOW - timedelta(seconds=1))
    check_issuer(make_issuer(_ROOT, roots=(_ROOT, old)), NOW)


def _tampered(chain: Chain) -> Chain:
    """Return a chain whose signature is another message's."""
    other = _signed(_SIGNERS["p256"], _order(_SIGNERS["p256"], account="other"), _SERIAL)
    foreign = x509.load_der_x509_certificate(other.leaf_der).signature
    template = Template.of(chain.issuer)
    tbs = x509.load_der_x509_certificate(chain.leaf_der).tbs_certificate_bytes
    return dataclasses.replace(chain, leaf_der=template.assemble(tbs, foreign))


def test_only_a_signature_computed_twice_is_proven_by_a_later_one() -> None:
    """Without a proof of its issuer, or computed once, each signature is verified itself."""
    signer = _SIGNERS["p256"]
    order = _order(signer)
    wrong = _tampered(_signed(signer, order, _SERIAL))
    twice = dataclasses.replace(wrong, signed_twice=True)
    for chain, proven in ((wrong, {signer.current}), (twice, set[Issuer]()), (twice, None)):
        with pytest.raises(WrongCertificate, match="not signed by its issuer"):
            check_issued(chain, order, proven=proven)
    assert check_issued(twice, order, proven={signer.current}) is twice


def test_what_is_verified_proves_and_what_is_wrong_does_not() -> None:
    """A proof comes from a signature that was verified, and from no other."""
    signer = _SIGNERS["p256"]
    order, proven = _order(signer), set[Issuer]()
    chain = _signed(signer, order, _SERIAL)
    with pytest.raises(WrongCertificate):
        check_issued(_tampered(chain), order, proven=proven)
    assert not proven
    check_issued(chain, order, proven=proven)
    assert proven == {signer.current}


def test_a_proof_excuses_the_signature_alone() -> None:
    """Every other field of a certificate is compared, whatever has been proven."""
    signer = _SIGNERS["p256"]
    chain = dataclasses.replace(_signed(signer, _order(signer), _SERIAL), signed_twice=True)
    with pytest.raises(WrongCertificate, match="subject alternative name differs"):
        check_issued(chain, _order(signer, account="other"), proven={signer.current})
