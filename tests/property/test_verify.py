"""Nothing but the certificate that was ordered passes the check."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsigner.csr import parse_csr
from meshsigner.errors import WrongCertificate
from meshsigner.model import Chain, Issuer, Order
from meshsigner.policy import authorize
from meshsigner.spiffe import WorkloadId
from meshsigner.verify import check_issued, check_issuer
from tests.fakes.pipeline import (
    NOW,
    TRUST_DOMAIN,
    CaKey,
    FakeSigner,
    make_ca_certificate,
    make_caller,
    make_csr,
    make_issuer,
    make_policy,
)

_KEY = ec.generate_private_key(ec.SECP256R1())
_OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
_SIGNERS = {
    "p256": FakeSigner(),
    "p384": FakeSigner(ec.generate_private_key(ec.SECP384R1())),
    "rsa": FakeSigner(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
}


def make_order(signer: FakeSigner, key: CaKey = _KEY, account: str = "bar") -> Order:
    """Order a certificate for a workload."""
    caller = make_caller(service_account=account)
    request = parse_csr(make_csr(key, caller.identity.uri))
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=timedelta(hours=1),
        policy=make_policy(),
        now=NOW,
        issuer_not_after=signer.current.certificate.not_valid_after_utc,
    )
    return Order(
        caller=caller,
        request=request,
        terms=terms,
        cert_signer="",
        issuer=signer.current,
        peer="",
    )


@pytest.mark.parametrize("kind", sorted(_SIGNERS))
def test_what_was_ordered_passes(kind: str) -> None:
    """A certificate made from its own order passes, with every kind of CA key."""
    order = make_order(_SIGNERS[kind])
    chain = _SIGNERS[kind].sign(order)
    assert check_issued(chain, order) is chain


_ROOT_KEY, _MIDDLE_KEY, _CA_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
_ROOT = make_ca_certificate(_ROOT_KEY, "root")
_MIDDLE = make_ca_certificate(_MIDDLE_KEY, "middle", signed_by=(_ROOT, _ROOT_KEY), path_length=1)
_ISSUER = make_ca_certificate(_CA_KEY, "issuer", signed_by=(_MIDDLE, _MIDDLE_KEY), path_length=0)

_ORDER = make_order(_SIGNERS["p256"])
_PASSING = (_ORDER, _SIGNERS["p256"].sign(_ORDER))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    """Whatever byte of a certificate is changed, the check refuses it."""
    order, chain = _PASSING
    position = data.draw(st.integers(0, len(chain.leaf_der) - 1))
    change = data.draw(st.integers(1, 255))
    wrong = bytearray(chain.leaf_der)
    wrong[position] ^= change
    with pytest.raises(WrongCertificate):
        check_issued(dataclasses.replace(chain, leaf_der=bytes(wrong)), order)


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(max_size=600))
def test_no_junk_passes(junk: bytes) -> None:
    """Bytes that are no certificate are refused, with nothing else raised."""
    order, chain = _PASSING
    with pytest.raises(WrongCertificate):
        check_issued(dataclasses.replace(chain, leaf_der=junk), order)


Builder = x509.CertificateBuilder
_USAGE = {
    "digital_signature": True,
    "content_commitment": False,
    "key_encipherment": True,
    "data_encipherment": False,
    "key_agreement": False,
    "key_cert_sign": False,
    "crl_sign": False,
    "encipher_only": False,
    "decipher_only": False,
}


def _rebuild(
    order: Order,
    signer: FakeSigner,
    *,
    public_key: CaKey | None = None,
    names: list[x509.GeneralName] | None = None,
    san_critical: bool = True,
    usage: x509.KeyUsage | None = None,
    usage_critical: bool = True,
    extended: list[ObjectIdentifier] | None = None,
    constraints: x509.BasicConstraints | None = None,
    constraints_critical: bool = True,
    authority: bytes | None = b"",
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    before: timedelta = timedelta(),
    after: timedelta = timedelta(),
    serial: int = 1 << 126,
    extra: x509.ExtensionType | None = None,
    drop: str = "",
) -> Chain:
    """Build a correctly signed certificate in which single fields may differ."""
    terms, ca = order.terms, signer.current.certificate
    key = (
        load_der_public_key(order.request.public_key.spki_der)
        if public_key is None
        else public_key.public_key()
    )
    ski = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    builder = (
        Builder()
        .issuer_name(ca.subject if issuer is None else issuer)
        .subject_name(subject or x509.Name([]))
        .serial_number(serial)
        .not_valid_before(terms.not_before + before)
        .not_valid_after(terms.not_after + after)
        .public_key(key)  # type: ignore[arg-type]
    )
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    uri = x509.UniformResourceIdentifier(terms.identity.uri)
    extensions: dict[str, tuple[x509.ExtensionType, bool]] = {
        "usage": (usage or x509.KeyUsage(**_USAGE), usage_critical),
        "extended": (x509.ExtendedKeyUsage(both if extended is None else extended), False),
        "constraints": (
            constraints or x509.BasicConstraints(ca=False, path_length=None),
            constraints_critical,
        ),
        "authority": (
            x509.AuthorityKeyIdentifier(authority or ski, None, None),
            False,
        ),
        "san": (x509.SubjectAlternativeName([uri] if names is None else names), san_critical),
    }
    if extra is not None:
        extensions["extra"] = (extra, False)
    for name, (extension, critical) in extensions.items():
        if name != drop:
            builder = builder.add_extension(extension, critical=critical)
    signed = builder.sign(signer.key, hashes.SHA256())
    return Chain(
        leaf_der=signed.public_bytes(Encoding.DER),
        issuer=signer.current,
        serial=serial,
        backend="rebuilt",
    )


def test_the_same_certificate_built_elsewhere_passes() -> None:
    """A remote CA's certificate passes when every field is as ordered."""
    signer = _SIGNERS["p256"]
    order = make_order(signer)
    check_issued(_rebuild(order, signer), order)
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    check_issued(_rebuild(order, signer, extended=both), order)
    ski = x509.SubjectKeyIdentifier(b"some key id")
    check_issued(_rebuild(order, signer, extra=ski), order)


_OTHER_URI = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/foo/sa/other")
_OWN_URI = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/foo/sa/bar")
_SUBJECT = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
_CA = x509.BasicConstraints(ca=True, path_length=None)
_WRONG: dict[str, tuple[dict[str, object], str]] = {
    "another key": ({"public_key": _OTHER_KEY}, "public key differs"),
    "another name": ({"names": [_OTHER_URI]}, "subject alternative name differs"),
    "one name more": ({"names": [_OWN_URI, _OTHER_URI]}, "subject alternative name differs"),
    "a DNS name more": (
        {"names": [_OWN_URI, x509.DNSName("a.b")]},
        "subject alternative name differs",
    ),
    "no name": ({"drop": "san"}, "subject alternative name differs"),
    "name not critical": ({"san_critical": False}, "subject alternative name differs"),
    "a subject": ({"subject": _SUBJECT}, "subject differs"),
    "another issuer": ({"issuer": _SUBJECT}, "issuer differs"),
    "starts later": ({"before": timedelta(seconds=1)}, "not before differs"),
    "starts earlier": ({"before": timedelta(seconds=-1)}, "not before differs"),
    "ends later": ({"after": timedelta(seconds=1)}, "not after differs"),
    "ends earlier": ({"after": timedelta(seconds=-1)}, "not after differs"),
    "a CA": ({"constraints": _CA}, "basic constraints differs"),
    "constraints not critical": ({"constraints_critical": False}, "basic constraints differs"),
    "no constraints": ({"drop": "constraints"}, "basic constraints differs"),
    "no usage": ({"drop": "usage"}, "key usage differs"),
    "usage not critical": ({"usage_critical": False}, "key usage differs"),
    "no extended usage": ({"drop": "extended"}, "extended key usage differs"),
    "server only": ({"extended": [ExtendedKeyUsageOID.SERVER_AUTH]}, "extended key usage differs"),
    "any usage too": (
        {
            "extended": [
                ExtendedKeyUsageOID.SERVER_AUTH,
                ExtendedKeyUsageOID.CLIENT_AUTH,
                ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
            ],
        },
        "extended key usage differs",
    ),
    "another authority": ({"authority": b"12345678"}, "authority key identifier differs"),
    "no authority": ({"drop": "authority"}, "authority key identifier differs"),
    "a policy": ({"extra": x509.OCSPNoCheck()}, "was not ordered"),
    "a short serial": ({"serial": 7}, "serial of 3 bits"),
    **{
        f"usage {bit}": (
            {"usage": x509.KeyUsage(**{**_USAGE, "key_agreement": True, bit: not _USAGE[bit]})},
            "key usage differs",
        )
        for bit in _USAGE
        if bit != "key_agreement"
    },
}


@pytest.mark.parametrize("wrong", sorted(_WRONG))
def test_statement_29_each_wrong_field_is_refused_by_name(wrong: str) -> None:
    """A correctly signed certificate with one wrong field is refused, and the field is named."""
    signer = _SIGNERS["p256"]
    order = make_order(signer)
    fields, text = _WRONG[wrong]
    with pytest.raises(WrongCertificate, match=text):
        check_issued(_rebuild(order, signer, **fields), order)  # type: ignore[arg-type]


def test_another_orders_certificate_is_refused() -> None:
    """Two answers of a batch that were swapped are both refused."""
    signer = _SIGNERS["p256"]
    one, two = make_order(signer, _KEY, "one"), make_order(signer, _OTHER_KEY, "two")
    with pytest.raises(WrongCertificate, match="public key differs"):
        check_issued(signer.sign(two), one)
    with pytest.raises(WrongCertificate, match="subject alternative name differs"):
        check_issued(signer.sign(one), two)


def test_another_serial_than_announced_is_refused() -> None:
    """The serial that would be recorded is the certificate's own."""
    order = make_order(_SIGNERS["p256"])
    chain = _SIGNERS["p256"].sign(order)
    with pytest.raises(WrongCertificate, match="serial differs"):
        check_issued(dataclasses.replace(chain, serial=chain.serial + 1), order)


def test_statement_22_a_leaf_that_outlives_its_issuer_is_refused() -> None:
    """Terms that end after the issuer are caught, even if the certificate says the same."""
    signer = FakeSigner(not_after=NOW + timedelta(minutes=10))
    order = make_order(signer)
    late = dataclasses.replace(order.terms, not_after=NOW + timedelta(minutes=11))
    order = dataclasses.replace(order, terms=late)
    with pytest.raises(WrongCertificate, match="outlives its issuer"):
        check_issued(signer.sign(order), order)


def test_statement_22_a_leaf_that_outlives_its_root_is_refused() -> None:
    """The first end on the whole path counts, not the issuer's own alone."""
    root = make_ca_certificate(_ROOT_KEY, "short root", not_after=NOW + timedelta(minutes=10))
    signer = FakeSigner()
    issuer = make_ca_certificate(
        signer.key, "long issuer", signed_by=(root, _ROOT_KEY), not_after=NOW + timedelta(days=9)
    )
    signer.current = make_issuer(issuer, intermediates=(issuer,), roots=(root,))
    assert signer.current.not_after == root.not_valid_after_utc
    order = make_order(signer)
    late = dataclasses.replace(order.terms, not_after=NOW + timedelta(minutes=11))
    order = dataclasses.replace(order, terms=late)
    with pytest.raises(WrongCertificate, match="outlives its issuer"):
        check_issued(signer.sign(order), order)


def test_anothers_signature_is_refused() -> None:
    """A certificate signed by another CA of the same name is refused."""
    signer, impostor = FakeSigner(), FakeSigner()
    order = make_order(signer)
    chain = impostor.sign(order)
    with pytest.raises(WrongCertificate):
        check_issued(dataclasses.replace(chain, issuer=signer.current), order)


def test_a_whole_path_passes() -> None:
    """Issuer, intermediate and root pass at a time when all are valid."""
    issuer = make_issuer(_ISSUER, intermediates=(_ISSUER, _MIDDLE), roots=(_ROOT,))
    assert check_issuer(issuer, NOW) is issuer


def _not_a_ca() -> Issuer:
    leaf = make_ca_certificate(_CA_KEY, "leaf", signed_by=(_ROOT, _ROOT_KEY), ca=False)
    return make_issuer(leaf, intermediates=(leaf,), roots=(_ROOT,))


def _too_deep() -> Issuer:
    short = make_ca_certificate(_MIDDLE_KEY, "short", signed_by=(_ROOT, _ROOT_KEY), path_length=0)
    low = make_ca_certificate(_CA_KEY, "low", signed_by=(short, _MIDDLE_KEY))
    return make_issuer(low, intermediates=(low, short), roots=(_ROOT,))


def _expired() -> Issuer:
    old = make_ca_certificate(_ROOT_KEY, "old", not_after=NOW - timedelta(seconds=1))
    return make_issuer(old)


_BROKEN: dict[str, tuple[Callable[[], Issuer], str]] = {
    "no root": (lambda: make_issuer(_ROOT, roots=()), "no root certificate"),
    "gap": (
        lambda: make_issuer(_ISSUER, intermediates=(_ISSUER,), roots=(_ROOT,)),
        "is not signed by any root",
    ),
    "wrong order": (
        lambda: make_issuer(_ISSUER, intermediates=(_MIDDLE, _ISSUER), roots=(_ROOT,)),
        "does not start with the issuer",
    ),
    "unrelated root": (
        lambda: make_issuer(
            _ISSUER,
            intermediates=(_ISSUER, _MIDDLE),
            roots=(make_ca_certificate(_CA_KEY, "root"),),
        ),
        "is not signed by any root",
    ),
    "not a CA": (_not_a_ca, "is not a CA certificate"),
    "path length": (_too_deep, "allows 0 CAs below it, not 1"),
    "expired": (_expired, "is not valid at"),
}


@pytest.mark.parametrize("broken", sorted(_BROKEN))
def test_statement_33_each_broken_path_is_refused_by_name(broken: str) -> None:
    """An issuer whose leaves would not verify is refused, with the reason."""
    make, text = _BROKEN[broken]
    with pytest.raises(WrongCertificate, match=text):
        check_issuer(make(), NOW)


def test_statement_08_leaves_of_a_broken_path_are_refused() -> None:
    """A leaf whose issuer does not chain to the announced roots does not leave."""
    signer = FakeSigner()
    signer.current = make_issuer(
        signer.current.certificate, roots=(make_ca_certificate(_ROOT_KEY, "another"),)
    )
    order = make_order(signer)
    with pytest.raises(WrongCertificate, match="not signed by any root"):
        check_issued(signer.sign(order), order)


def test_identities_of_the_order_are_what_is_compared() -> None:
    """An order for another workload does not accept this workload's certificate."""
    signer = _SIGNERS["p256"]
    order = make_order(signer)
    chain = signer.sign(order)
    other = dataclasses.replace(
        order.terms, identity=WorkloadId.of(TRUST_DOMAIN, "foo", "someone-else")
    )
    with pytest.raises(WrongCertificate, match="subject alternative name differs"):
        check_issued(chain, dataclasses.replace(order, terms=other))
