"""What a call says: message, lifetime, headers."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.errors import InvalidCsr
from meshsigner.model import Credentials
from meshsigner.rpc.proof import Proof
from meshsigner.rpc.request import (
    MAX_ASKED_LIFETIME_S,
    asked_lifetime,
    credentials,
    csr_pem,
    parse_message,
)

EMPTY = IstioCertificateRequest()


def _credentials(*headers: tuple[str, str | bytes]) -> Credentials:
    return credentials(EMPTY, headers, peer="ipv4:10.0.0.7:1", proof=Proof(secure=True))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_invalid(data: bytes) -> None:
    """No input raises anything but InvalidCsr, and what is read can be asked for everything."""
    try:
        message = parse_message(data)
    except InvalidCsr:
        return
    credentials(message, (), peer="", proof=Proof(secure=True))
    csr_pem(message)
    asked_lifetime(message.validity_duration)


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_any_number_is_a_lifetime_or_the_default(seconds: int) -> None:
    """Every number that fits the wire gives a positive lifetime, or none."""
    lifetime = asked_lifetime(seconds)
    if 0 < seconds <= MAX_ASKED_LIFETIME_S:
        assert lifetime == timedelta(seconds=seconds)
    else:
        assert lifetime is None


@given(st.lists(st.tuples(st.sampled_from(["authorization", "clusterid"]), st.text())))
def test_any_headers_are_read(headers: list[tuple[str, str]]) -> None:
    """The token is the first Bearer value's rest, the cluster the only one, whatever comes."""
    found = _credentials(*headers)
    values = [value for name, value in headers if name == "authorization"]
    bearers = [value for value in values if value.startswith("Bearer ")]
    clusters = [value for name, value in headers if name == "clusterid"]
    assert found.bearer_token == (bearers[0][7:] if bearers else None)
    assert found.cluster_id == (clusters[0] if len(clusters) == 1 else "")


def test_binary_values_are_no_credentials() -> None:
    """Bytes where text is expected are passed over."""
    found = _credentials(("authorization", b"Bearer x"), ("clusterid", b"x"))
    assert found.bearer_token is None
    assert found.cluster_id == ""


def test_a_token_keeps_its_blanks() -> None:
    """What follows the prefix is taken as it is; whoever checks it judges the blanks."""
    assert _credentials(("authorization", "Bearer  a ")).bearer_token == " a "


@pytest.mark.parametrize("text", ["a" * 16_385, "€" * 5_462])
def test_csr_size_counts_bytes(text: str) -> None:
    """A CSR above 16 KiB is refused, however few letters it has."""
    with pytest.raises(InvalidCsr, match="larger than 16 KiB"):
        csr_pem(IstioCertificateRequest(csr=text))


def test_metadata_of_both_keys() -> None:
    """Both keys that mean something are read."""
    message = IstioCertificateRequest(
        metadata={"CertSigner": "clusterissuers/a", "ImpersonatedIdentity": "spiffe://a/ns/b/sa/c"}
    )
    found = credentials(message, (), peer="", proof=Proof(secure=False))
    assert (found.cert_signer, found.secure) == ("clusterissuers/a", False)
    assert found.impersonated_identity == "spiffe://a/ns/b/sa/c"
