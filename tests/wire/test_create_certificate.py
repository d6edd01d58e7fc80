"""The method itself: what goes in, what comes out, as Istio's clients see it."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.json_format import ParseDict
from grpc import aio

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.errors import Unauthenticated
from tests.fakes.issuance import chain_of
from tests.fakes.pipeline import make_ca_certificate, make_issuer
from tests.wire.harness import CSR, Header, Refused, Wire


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _with_two_intermediates(wire: Wire) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """Let the server answer leaf, two intermediates, two roots; return the last two pairs."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
    roots = [make_ca_certificate(keys[0], "root"), make_ca_certificate(keys[3], "next root")]
    upper = make_ca_certificate(keys[1], "upper", signed_by=(roots[0], keys[0]))
    lower = make_ca_certificate(keys[2], "lower", signed_by=(upper, keys[1]))
    issuer = make_issuer(lower, intermediates=(lower, upper), roots=tuple(roots))
    leaf = make_ca_certificate(keys[0], "leaf", signed_by=(lower, keys[2]))
    wire.issuance.chain = chain_of(issuer, leaf)
    return [lower, upper], roots


async def test_statement_01_method_and_fields(wire: Wire, channel: aio.Channel) -> None:
    """Fields 1, 3 and 4 of the request reach the pipeline; the answer is field 1 alone."""
    metadata = b"\x0a\x15\x0a\x0aCertSigner\x12\x07\x1a\x05other"
    request = b"\x0a\x03csr" + b"\x18\x80\xa3\x05" + b"\x22" + bytes([len(metadata)]) + metadata
    method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
    answer = await channel.unary_unary(method, None, None)(request)
    ask = wire.issuance.asks[0]
    assert ask.csr_pem == b"csr"
    assert ask.asked_lifetime == timedelta(hours=24)
    assert ask.credentials.cert_signer == "other"
    assert answer.startswith(b"\x0a")
    assert answer.count(b"-----BEGIN CERTIFICATE-----") == 2


@pytest.mark.parametrize("service", ["istio.v1.auth.IstioCertificateService", "other.Service"])
async def test_statement_01_other_methods_are_unimplemented(
    channel: aio.Channel, service: str
) -> None:
    """A method that is not in the table is UNIMPLEMENTED."""
    with pytest.raises(aio.AioRpcError) as caught:
        await channel.unary_unary(f"/{service}/Revoke", None, None)(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("metadata", "signer"),
    [
        (None, ""),
        ({"CertSigner": ""}, ""),
        ({"CertSigner": "a", "Other": "b", "WorkloadName": {"deep": [1]}}, "a"),
        ({"CertSigner": 7.5}, ""),
        ({"CertSigner": None}, ""),
        ({"CertSigner": ["a"]}, ""),
    ],
)
async def test_statement_02_metadata_is_optional(
    wire: Wire, channel: aio.Channel, metadata: dict[str, object] | None, signer: str
) -> None:
    """Absent metadata, unknown keys and values that are no strings do not fail a call."""
    request = IstioCertificateRequest(csr=CSR)
    if metadata is not None:
        ParseDict(metadata, request.metadata)
    assert isinstance(await wire.call(channel, request), list)
    assert wire.issuance.asks[0].credentials.cert_signer == signer


async def test_statement_03_at_least_two_elements(wire: Wire, channel: aio.Channel) -> None:
    """A root that signs itself still gives two elements: leaf, root."""
    answer = await wire.call(channel)
    assert isinstance(answer, list)
    assert len(answer) == 2


async def test_statement_04_one_certificate_an_element(wire: Wire, channel: aio.Channel) -> None:
    """Every element but the last holds just one certificate."""
    _with_two_intermediates(wire)
    answer = await wire.call(channel)
    assert isinstance(answer, list)
    assert [len(x509.load_pem_x509_certificates(pem.encode())) for pem in answer[:-1]] == [1, 1, 1]


async def test_statement_05_anchors_unsplit_in_the_last(wire: Wire, channel: aio.Channel) -> None:
    """The last element is the bundle, byte for byte."""
    _, roots = _with_two_intermediates(wire)
    answer = await wire.call(channel)
    assert isinstance(answer, list)
    assert answer[-1] == "".join(map(_pem, roots))


async def test_statement_06_one_newline_at_the_end(wire: Wire, channel: aio.Channel) -> None:
    """Elements joined as they are make a valid PEM file without empty lines."""
    _with_two_intermediates(wire)
    answer = await wire.call(channel)
    assert isinstance(answer, list)
    assert all(pem.endswith("-----\n") for pem in answer)
    assert "\n\n" not in "".join(answer)
    assert len(x509.load_pem_x509_certificates("".join(answer).encode())) == 5


async def test_statement_07_intermediates_towards_the_root(
    wire: Wire, channel: aio.Channel
) -> None:
    """After the leaf comes who signed it, then who signed that."""
    intermediates, _ = _with_two_intermediates(wire)
    answer = await wire.call(channel)
    assert isinstance(answer, list)
    assert answer[0] == _pem(x509.load_der_x509_certificate(wire.issuance.chain.leaf_der))
    assert answer[1:-1] == [_pem(certificate) for certificate in intermediates]


async def test_new_issuer_brings_its_own_chain(wire: Wire, channel: aio.Channel) -> None:
    """After a reload nothing of the old issuer's chain is answered."""
    before = await wire.call(channel)
    _with_two_intermediates(wire)
    after = await wire.call(channel)
    assert isinstance(before, list)
    assert isinstance(after, list)
    assert len(after) == 4
    assert set(before).isdisjoint(after)


async def test_statement_18_authentication_before_parsing(wire: Wire, channel: aio.Channel) -> None:
    """Garbage as CSR reaches the pipeline as it is: who calls is judged first, behind the wire."""
    wire.issuance.error = Unauthenticated("no token")
    refused = await wire.call(channel, IstioCertificateRequest(csr="\x00 not a CSR"))
    assert refused == Refused(
        code=grpc.StatusCode.UNAUTHENTICATED, text="request authenticate failure"
    )
    assert wire.issuance.asks[0].csr_pem == b"\x00 not a CSR"


@pytest.mark.parametrize(
    ("seconds", "lifetime"),
    [
        (0, None),
        (-1, None),
        (-(2**63), None),
        (1, timedelta(seconds=1)),
        (9_223_372_036, timedelta(seconds=9_223_372_036)),
        (9_223_372_037, None),
        (2**63 - 1, None),
    ],
)
async def test_statement_19_default_lifetime(
    wire: Wire, channel: aio.Channel, seconds: int, lifetime: timedelta | None
) -> None:
    """Nothing, a negative number, or more than istiod can count asks for the default."""
    await wire.call(channel, IstioCertificateRequest(csr=CSR, validity_duration=seconds))
    assert wire.issuance.asks[0].asked_lifetime == lifetime


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ([], None),
        (["Bearer first-token"], "first-token"),
        (["Basic dXNlcg==", "Bearer first-token", "Bearer second-token"], "first-token"),
        (["bearer first-token"], None),
        (["Bearerfirst-token"], None),
        ([" Bearer first-token"], None),
    ],
)
async def test_statement_38_first_bearer_value(
    wire: Wire, channel: aio.Channel, values: list[str], token: str | None
) -> None:
    """The first authorization value with the exact prefix counts, other schemes are ignored."""
    await wire.call(channel, headers=[("authorization", value) for value in values])
    assert wire.issuance.asks[0].credentials.bearer_token == token


@pytest.mark.parametrize(
    ("values", "cluster"),
    [([], ""), ([""], ""), (["east"], "east"), (["east", "west"], ""), (["east", "east"], "")],
)
async def test_cluster_id_counts_when_sent_once(
    wire: Wire, channel: aio.Channel, values: list[str], cluster: str
) -> None:
    """Without a header, or with several, the cluster id is empty."""
    await wire.call(channel, headers=[("clusterid", value) for value in values])
    assert wire.issuance.asks[0].credentials.cluster_id == cluster


async def test_statement_40_the_pipeline_learns_of_tls(wire: Wire, channel: aio.Channel) -> None:
    """A call over TLS is told as secure, with the client's address."""
    await wire.call(channel)
    credentials = wire.issuance.asks[0].credentials
    assert credentials.secure
    assert credentials.peer.startswith("ipv4:127.0.0.1:")


async def test_statement_51_unknown_headers(wire: Wire, channel: aio.Channel) -> None:
    """CA_HEADER_* headers, binary ones too, are accepted and do nothing."""
    headers: list[Header] = [("x-tenant", "a"), ("x-api-key", "b"), ("x-trace-bin", b"\x00")]
    assert isinstance(await wire.call(channel, headers=headers), list)


async def test_statement_53_repeated_calls(wire: Wire, channel: aio.Channel) -> None:
    """The same request sent again and again reaches the pipeline each time."""
    answers = await asyncio.gather(*(wire.call(channel) for _ in range(5)))
    assert all(isinstance(answer, list) for answer in answers)
    assert len(wire.issuance.asks) == 5


async def test_lines_of_calls_that_are_answered(wire: Wire, channel: aio.Channel) -> None:
    """An answered call leaves one line with what the stages learnt, and is counted."""
    await wire.call(channel, IstioCertificateRequest(csr=CSR, validity_duration=3600))
    (line,) = await wire.call_lines(1)
    assert line["level"] == "info"
    assert line["code"] == "OK"
    assert line["reason"] == "ok"
    assert line["identity"] == "spiffe://cluster.local/ns/foo/sa/bar"
    assert line["asked_lifetime_s"] == 3600
    assert str(line["peer"]).startswith("ipv4:127.0.0.1:")
    assert isinstance(line["duration_ms"], float)
    assert wire.metric("meshsigner_calls_total", reason="ok") == 1
    issued = {"auth_method": "jwt", "backend": "fake"}
    assert wire.metric("meshsigner_certificates_issued_total", **issued) == 1
    assert wire.metric("citadel_server_success_cert_issuance_count") == 1
