"""What real clients sent and istiod answered, against our own decisions and profile.

The calls are replayed over the wire elsewhere; here the pure parts stand alone.
"""

import hashlib
import json
from typing import cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.csr import parse_csr
from meshsigner.model import Chain
from meshsigner.profile import Template
from meshsigner.verify import check_issued, check_issuer
from tests.vectors.judge import CALLER, NOW, decide
from tests.vectors.recorded_calls import FOLDER, RecordedCall, recorded_calls, recorded_tokens
from tests.vectors.recorded_orders import recorded_issuer, recorded_leaf, recorded_order

CALLS = recorded_calls()
SIGNED = [call for call in CALLS if call.chain]


def _client(call: object) -> str:
    return cast("RecordedCall", call).client


each_call = pytest.mark.parametrize("call", CALLS, ids=_client)
each_signed = pytest.mark.parametrize("call", SIGNED, ids=_client)


def test_recording_is_whole() -> None:
    """Every recorded file is what the index says, and no file is without an origin."""
    index = json.loads((FOLDER / "index.json").read_bytes())
    listed = {entry["file"]: entry for entry in index}
    held = {path.name for path in FOLDER.iterdir()} - {"README.md", "index.json"}
    assert held == set(listed)
    for name, entry in listed.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == entry["sha256"]
        assert entry["origin"]


def test_recording_holds_the_clients_of_the_contract() -> None:
    """Istio's Go client, istio-agent in three settings and ztunnel were recorded, 5 got a chain."""
    assert [call.client.split(",")[0].split(" (")[0] for call in CALLS] == [
        "istio Go CA client",
        "istio Go CA client",
        "istio Go CA client",
        "istio-agent",
        "istio-agent",
        "istio-agent",
        "ztunnel",
    ]
    assert len(SIGNED) == 5
    assert {call.token for call in CALLS} <= set(recorded_tokens())


@each_call
def test_request_bytes_are_of_our_message(call: RecordedCall) -> None:
    """The recorded bytes are read by our messages, and written again they are the same."""
    message = IstioCertificateRequest.FromString(call.request)
    assert message.csr == call.csr
    assert message.validity_duration == 86_400
    assert message.SerializeToString(deterministic=True) == call.request


@each_call
def test_statement_31_csr_of_real_clients_is_accepted(call: RecordedCall) -> None:
    """Each CSR that Istio's clients make is read, names the caller, and has one URI name."""
    request = parse_csr(call.csr.encode())
    assert request.uri_sans == (CALLER.identity.uri,)
    assert (request.other_sans, request.wants_common_name) == (0, False)
    assert decide(call.csr.encode()).identity == CALLER.identity


@each_signed
def test_leaf_equals_istiods_byte_for_byte(call: RecordedCall) -> None:
    """With istiod's serial, times and signature our leaf is istiod's."""
    leaf = recorded_leaf(call)
    template = Template.of(recorded_issuer())
    tbs = template.build_tbs(recorded_order(call), leaf.serial_number)
    assert tbs == leaf.tbs_certificate_bytes
    assert template.assemble(tbs, leaf.signature) == leaf.public_bytes(Encoding.DER)


@each_signed
def test_istiods_leaf_passes_our_check(call: RecordedCall) -> None:
    """The check that stands before every answer finds nothing wrong with istiod's own."""
    order = recorded_order(call)
    leaf = recorded_leaf(call)
    chain = Chain(
        leaf_der=leaf.public_bytes(Encoding.DER),
        issuer=order.issuer,
        serial=leaf.serial_number,
        backend="istiod",
    )
    assert check_issued(chain, order) is chain


def test_recorded_ca_is_usable_as_anrecorded_issuer() -> None:
    """A root that signs leaves itself passes the issuer's check."""
    issuer = recorded_issuer()
    assert check_issuer(issuer, NOW) is issuer
