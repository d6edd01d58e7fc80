"""What `x-forwarded-client-cert` says, and what it is refused for."""

import pytest

from meshsigner.authn.xfcc import parse_forwarded
from meshsigner.errors import Unauthenticated
from tests.fakes.client_certificates import IDENTITY, Mesh, encode, forwarded

_MESH = Mesh()
_MADE = _MESH.leaf()
_OTHER = _MESH.leaf(uris=["spiffe://cluster.local/ns/foo/sa/victim"])


def _refusal(*values: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        parse_forwarded(values)
    return str(refused.value)


def test_the_chain_of_one_element_is_returned() -> None:
    """As Envoy writes it with cert and chain."""
    assert parse_forwarded([forwarded(_MADE)]) == _MADE.chain_pem


def test_the_certificate_alone_is_enough() -> None:
    """Chain may be missing."""
    assert parse_forwarded([f'Cert="{encode(_MADE.pem)}"']) == _MADE.pem
    assert parse_forwarded([f"Hash=;Cert={encode(_MADE.pem)}".replace("Hash=;", "")]) == _MADE.pem


def test_subject_and_names_are_read_over() -> None:
    """Escaped quotes and separators in quotes are part of a value."""
    subject = r'"CN=\"a;b,c\",O=x"'
    header = forwarded(_MADE, Subject=subject, URI=IDENTITY, DNS="vm.example.org")
    assert parse_forwarded([header]) == _MADE.chain_pem


def test_the_uri_field_means_nothing() -> None:
    """Whatever URI says, the certificate is the one in Cert."""
    header = forwarded(_MADE, URI="spiffe://cluster.local/ns/foo/sa/victim")
    assert parse_forwarded([header]) == _MADE.chain_pem


@pytest.mark.parametrize(
    "uri",
    [
        f'spiffe://x/y;Cert="{encode(_OTHER.pem)}"',
        f'spiffe://x/y;Chain="{encode(_OTHER.chain_pem)}"',
        f"spiffe://x/y,{forwarded(_OTHER)}",
        'spiffe://x/y;Subject="',
    ],
)
def test_a_name_that_forges_fields_is_refused(uri: str) -> None:
    """Envoy writes URIs as they are: separators in them make a second field or element."""
    assert _refusal(forwarded(_MADE, URI=uri))


def test_several_elements_or_headers_are_refused() -> None:
    """An earlier proxy, or the client itself, may have written all but one of them."""
    assert "more than one element" in _refusal(f"{forwarded(_OTHER)},{forwarded(_MADE)}")
    assert "several" in _refusal(forwarded(_OTHER), forwarded(_MADE))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Cert",
        ";Cert=x",
        "Cert=x;",
        'Cert="x',
        'Cert="x"y',
        f'Hash=00;Cert="{encode(_MADE.pem)}" ',
        f'Cert ="{encode(_MADE.pem)}"',
    ],
)
def test_what_is_not_in_the_form_is_refused(header: str) -> None:
    """Nothing is guessed."""
    assert _refusal(header)


@pytest.mark.parametrize(
    "value",
    ["%", "%4", "%zz", "a b", "\u00e9", encode(_MADE.pem) + "%0", encode(b"no certificate")],
)
def test_what_is_not_url_encoded_pem_is_refused(value: str) -> None:
    """Cert holds a certificate or nothing."""
    assert _refusal(f'Cert="{value}"')


def test_a_header_without_certificate_is_refused() -> None:
    """Hash, URI and Subject prove nothing by themselves."""
    assert "without Cert" in _refusal(f"Hash={'0' * 64};URI={IDENTITY}")


@pytest.mark.parametrize(
    "header",
    [
        f'Cert="{encode(_MADE.pem)}";Chain="{encode(_OTHER.chain_pem)}"',
        f'Hash={"0" * 64};Cert="{encode(_MADE.pem)}"',
        f'Cert="{encode(_MADE.pem + _OTHER.pem)}"',
    ],
)
def test_fields_of_different_clients_are_refused(header: str) -> None:
    """Cert, Chain and Hash are of one certificate."""
    assert _refusal(header)
