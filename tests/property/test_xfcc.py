"""`x-forwarded-client-cert`, whatever a client or a name in a certificate puts into it."""

from hypothesis import example, given
from hypothesis import strategies as st

from meshsigner.authn.xfcc import parse_forwarded
from meshsigner.errors import Unauthenticated
from tests.fakes.client_certificates import Mesh, encode, forwarded

_MESH = Mesh()
_MADE = _MESH.leaf()
_OTHER = _MESH.leaf(uris=["spiffe://cluster.local/ns/foo/sa/victim"])
_HEADER = forwarded(_MADE)
_PIECES = st.sampled_from(
    [
        *(";", ",", '"', "\\", "=", " ", "Cert=", "Chain=", "URI=", "Hash=", "By=", "Subject="),
        f'Cert="{encode(_OTHER.pem)}"',
        f'Chain="{encode(_OTHER.chain_pem)}"',
        encode(_OTHER.pem),
        forwarded(_OTHER),
    ]
)
_ANY = st.one_of(
    st.text(max_size=60), st.lists(st.one_of(_PIECES, st.text(max_size=5)), max_size=8).map("".join)
)


def _parsed(*values: str) -> bytes | None:
    try:
        return parse_forwarded(values)
    except Unauthenticated:
        return None


@given(st.lists(_ANY, max_size=3))
def test_any_header_is_read_or_refused(values: list[str]) -> None:
    """Nothing but one documented error ever ends it."""
    _parsed(*values)


@given(_ANY)
@example(f';Cert="{encode(_OTHER.pem)}"')
@example(f",{forwarded(_OTHER)}")
@example('";Subject="')
def test_what_stands_behind_never_makes_another_client(forgery: str) -> None:
    """Names that Envoy writes without escapes come after the certificate: they win nothing."""
    assert _parsed(f"{_HEADER};URI={forgery}") in {None, _MADE.chain_pem}
    assert _parsed(f"{_HEADER}{forgery}") in {None, _MADE.chain_pem}


@given(_ANY)
def test_a_subject_is_never_more_than_a_subject(text: str) -> None:
    """Quoted and escaped as Envoy does it, any text passes and changes nothing."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    assert _parsed(f'{_HEADER};Subject="{quoted}"') == _MADE.chain_pem


@given(_ANY, st.booleans())
def test_a_second_header_or_element_is_never_believed(other: str, first: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever it says, wherever it stands."""
    headers = (other, _HEADER) if first else (_HEADER, other)
    assert _parsed(*headers) is None
    assert _parsed(",".join(headers)) is None
