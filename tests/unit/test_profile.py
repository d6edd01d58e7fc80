"""The profile field by field, as a reader of certificates sees it."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from meshsigner.model import Order
from meshsigner.profile import Template, tlv
from tests.vectors.pkcs10 import IDENTITY
from tests.vectors.recorded_calls import recorded_calls
from tests.vectors.recorded_orders import recorded_order

SERIAL = 0x40_00_00_00_00_00_00_00_00_00_00_00_00_00_00_01
CALL = next(call for call in recorded_calls() if call.chain)


def _order(**changes: object) -> Order:
    """Return a real client's order, with other terms where told."""
    order = recorded_order(CALL)
    terms = dataclasses.replace(order.terms, **changes)  # type: ignore[arg-type] # any field
    return dataclasses.replace(order, terms=terms)


def _leaf(order: Order, serial: int = SERIAL) -> x509.Certificate:
    """Assemble a certificate; its signature is nobody's, which no reader of fields minds."""
    template = Template.of(order.issuer)
    signature = b"\x00"
    return x509.load_der_x509_certificate(
        template.assemble(template.build_tbs(order, serial), signature),
    )


def test_statement_26_identity_is_the_one_uri_san() -> None:
    """There is one name, it is a URI, and it is the caller's SPIFFE ID."""
    san = _leaf(_order()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(san.value) == [x509.UniformResourceIdentifier(IDENTITY)]


def test_statement_27_usages_are_those_of_a_workload() -> None:
    """CA is FALSE and critical, key usage critical, extended usage for servers and clients."""
    extensions = _leaf(_order()).extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (
        True,
        False,
        None,
    )
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert not usage.value.key_cert_sign
    assert not usage.value.crl_sign
    assert list(extended.value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    assert not extended.critical


def test_statement_25_names_are_critical_and_the_subject_is_empty() -> None:
    """The SAN is critical with a common name and without; without one the subject is empty."""
    plain, dual = _leaf(_order()), _leaf(_order(common_name=IDENTITY))
    for leaf in (plain, dual):
        assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert list(plain.subject) == []
    assert [(a.oid, a.value) for a in dual.subject] == [(x509.NameOID.COMMON_NAME, IDENTITY)]


def test_extensions_stand_in_istiods_order() -> None:
    """The five extensions are istiod's, in its order, and there is no sixth."""
    assert [extension.oid for extension in _leaf(_order()).extensions] == [
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ]


def test_statement_33_authority_key_is_the_issuers() -> None:
    """The authority key identifier is the issuer's subject key identifier, and nothing more."""
    order = _order()
    extensions = _leaf(order).extensions
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    issuers = order.issuer.certificate.extensions
    own = issuers.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority == x509.AuthorityKeyIdentifier(own.digest, None, None)


@pytest.mark.parametrize(
    ("not_after", "tag"),
    [
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), 0x17),
        (datetime(2050, 1, 1, tzinfo=UTC), 0x18),
    ],
)
def test_times_change_their_form_in_2050(not_after: datetime, tag: int) -> None:
    """Through 2049 a time is UTCTime, from 2050 GeneralizedTime (RFC 5280 4.1.2.5)."""
    order = _order(not_after=not_after)
    tbs = Template.of(order.issuer).build_tbs(order, SERIAL)
    text = not_after.strftime("%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ").encode()
    assert bytes([tag, len(text)]) + text in tbs
    leaf = _leaf(order)
    assert leaf.not_valid_after_utc == not_after
    assert leaf.not_valid_before_utc == order.terms.not_before


@pytest.mark.parametrize("serial", [1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, SERIAL, 2**159 - 1])
def test_serial_is_positive_whatever_its_first_bit(serial: int) -> None:
    """A serial whose first bit is set gets a zero octet, so that nobody reads it as negative."""
    assert _leaf(_order(), serial).serial_number == serial


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_lengths_are_as_short_as_can_be(size: int) -> None:
    """A length below 128 is one octet, a longer one has no leading zero (X.690 10.1)."""
    encoded = tlv(0x04, b"x" * size)
    head = encoded[: len(encoded) - size]
    octets = (size.bit_length() + 7) // 8
    wanted = bytes([size]) if size < 128 else bytes([0x80 | octets]) + size.to_bytes(octets)
    assert head == b"\x04" + wanted


def test_validity_is_to_the_second() -> None:
    """NotBefore and NotAfter are the terms', to the second."""
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    leaf = _leaf(_order(not_before=start, not_after=start + timedelta(seconds=7)))
    assert leaf.not_valid_before_utc == start
    assert leaf.not_valid_after_utc == start + timedelta(seconds=7)
