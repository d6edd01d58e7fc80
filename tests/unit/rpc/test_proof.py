"""What a listener's transport proves, and what a call's headers become by it."""

import pytest

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.rpc.proof import Proof, always, of_client, peer_chain
from meshsigner.rpc.request import FORWARDED, credentials

_EMPTY = IstioCertificateRequest()


class _Connected:
    """A connection whose handshake found something out."""

    def __init__(self, **context: list[bytes]) -> None:
        self._context = context

    def auth_context(self) -> dict[str, list[bytes]]:
        return self._context


def test_leaf_and_chain_are_put_together() -> None:
    """GRPC gives the leaf apart from what came with it; either may be missing."""
    assert peer_chain({"x509_pem_cert": [b"leaf\n"], "x509_pem_cert_chain": [b"ca\n"]}) == (
        b"leaf\nca\n"
    )
    assert peer_chain({"x509_pem_cert": [b"leaf\n"]}) == b"leaf\n"
    assert peer_chain({"transport_security_type": [b"ssl"]}) == b""


def test_a_client_shows_its_certificate() -> None:
    """The listener says whether it is a proxy."""
    connected = _Connected(x509_pem_cert=[b"leaf\n"])
    found = of_client(believes_proxy=True)(connected)
    assert found == Proof(secure=True, believes_proxy=True, peer_chain_pem=b"leaf\n")


def test_a_listener_that_asks_for_nothing_looks_at_nothing() -> None:
    """What it proves is the same for every call."""
    proof = Proof(secure=True)
    assert always(proof)(_Connected(x509_pem_cert=[b"leaf"])) is proof


@pytest.mark.parametrize("believes_proxy", [True, False])
def test_the_forwarded_header_counts_where_a_proxy_is_believed(*, believes_proxy: bool) -> None:
    """Every value of it there, none elsewhere."""
    headers = [(FORWARDED, "Cert=a"), ("clusterid", "west"), (FORWARDED, "Cert=b")]
    proof = Proof(secure=True, believes_proxy=believes_proxy)
    found = credentials(_EMPTY, headers, peer="", proof=proof)
    assert found.forwarded == (("Cert=a", "Cert=b") if believes_proxy else None)
    assert found.cluster_id == "west"


def test_what_is_shown_stays_out_of_texts() -> None:
    """Neither chain nor header is in a representation."""
    proof = Proof(secure=True, believes_proxy=True, peer_chain_pem=b"the chain")
    found = credentials(_EMPTY, [(FORWARDED, "the header")], peer="", proof=proof)
    assert "the chain" not in f"{proof!r} {found!r}"
    assert "the header" not in repr(found)
