"""What a caller is told of each error, and what is not told; docs/errors.md row by row."""

import asyncio
from collections.abc import Mapping

import grpc
import pytest
from grpc import StatusCode, aio

from meshsigner import errors
from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.rpc.status import STATUS
from tests.secret_scan import Secrets
from tests.wire.harness import Refused, Wire, until

SECRET_CAUSE = "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln of 10.0.0.7"

EVERY_ERROR: Mapping[type[errors.MeshsignerError], errors.MeshsignerError] = {
    errors.Unauthenticated: errors.Unauthenticated(SECRET_CAUSE),
    errors.ImpersonationRefused: errors.ImpersonationRefused(SECRET_CAUSE),
    errors.Forbidden: errors.Forbidden(SECRET_CAUSE),
    errors.InvalidCsr: errors.InvalidCsr("failed to parse X.509 certificate signing request"),
    errors.SanNotAllowed: errors.SanNotAllowed(SECRET_CAUSE),
    errors.InvalidLifetime: errors.InvalidLifetime(asked_s=10, maximum_s=5),
    errors.UnknownSigner: errors.UnknownSigner("vault"),
    errors.Overloaded: errors.Overloaded("queue_total"),
    errors.NotReady: errors.NotReady(SECRET_CAUSE),
    errors.BackendUnavailable: errors.BackendUnavailable(SECRET_CAUSE),
    errors.RecordFailed: errors.RecordFailed(SECRET_CAUSE),
    errors.DeadlinePassed: errors.DeadlinePassed(SECRET_CAUSE),
    errors.WrongCertificate: errors.WrongCertificate((SECRET_CAUSE, "other key")),
    errors.BackendRefused: errors.BackendRefused(SECRET_CAUSE),
}


def test_the_table_is_whole() -> None:
    """Every class that has a status is tried here."""
    assert set(EVERY_ERROR) == set(STATUS)


@pytest.mark.parametrize("kind", list(EVERY_ERROR), ids=lambda kind: str(kind.__name__))
async def test_every_error_is_told_as_documented(
    wire: Wire, channel: aio.Channel, kind: type[errors.MeshsignerError]
) -> None:
    """Status and text are the table's, log and metrics say the reason, the cause stays inside."""
    error = wire.issuance.error = EVERY_ERROR[kind]
    refused = await wire.call(channel)
    assert refused == Refused(code=STATUS[kind], text=error.client_text)
    assert "10.0.0.7" not in error.client_text
    (line,) = await wire.call_lines(1)
    assert (line["code"], line["reason"]) == (STATUS[kind].name, kind.reason)
    assert line["level"] == ("error" if isinstance(error, errors.ServiceFault) else "warning")
    assert wire.metric("meshsigner_calls_total", reason=kind.reason) == 1


async def test_statement_11_unauthenticated_is_opaque(wire: Wire, channel: aio.Channel) -> None:
    """Whatever is wrong with the token, the caller learns Istio's one sentence."""
    texts = set()
    for cause in ("no token", "expired", "wrong audience", "not a service account"):
        wire.issuance.error = errors.Unauthenticated(cause)
        texts.add(await wire.call(channel))
    expected = Refused(code=StatusCode.UNAUTHENTICATED, text="request authenticate failure")
    assert texts == {expected}
    assert wire.metric("citadel_server_authentication_failure_count") == 4


async def test_statement_12_impersonation_is_opaque(wire: Wire, channel: aio.Channel) -> None:
    """The asked identity reaches the pipeline; a refusal is Istio's one sentence."""
    wire.issuance.error = errors.ImpersonationRefused("no pod of that account on the node")
    request = IstioCertificateRequest(
        metadata={"ImpersonatedIdentity": "spiffe://cluster.local/ns/a/sa/b"}
    )
    text = "request impersonation authentication failure"
    assert await wire.call(channel, request) == Refused(code=StatusCode.UNAUTHENTICATED, text=text)
    asked = wire.issuance.asks[0].credentials.impersonated_identity
    assert asked == "spiffe://cluster.local/ns/a/sa/b"


async def test_statement_13_bad_csr(wire: Wire, channel: aio.Channel) -> None:
    """What is wrong with the CSR is told in Istio's form."""
    wire.issuance.error = errors.InvalidCsr(
        "certificate signing request is not properly encoded",
    )
    text = "CSR signing error (certificate signing request is not properly encoded)"
    assert await wire.call(channel) == Refused(code=StatusCode.INVALID_ARGUMENT, text=text)


@pytest.mark.parametrize(
    "error",
    [
        errors.NotReady("no issuer"),
        errors.BackendUnavailable("connection refused"),
        errors.RecordFailed("disk full"),
        errors.WrongCertificate(("another key",)),
        RuntimeError("a bug"),
        TimeoutError("undocumented"),
    ],
    ids=repr,
)
async def test_statement_14_own_faults_are_retried(
    wire: Wire, channel: aio.Channel, error: Exception
) -> None:
    """A fault of ours is INTERNAL or UNAVAILABLE, whatever it was."""
    wire.issuance.error = error
    refused = await wire.call(channel)
    assert isinstance(refused, Refused)
    assert refused.code in {StatusCode.INTERNAL, StatusCode.UNAVAILABLE}


async def test_statement_15_overload(wire: Wire, channel: aio.Channel) -> None:
    """Shedding is RESOURCE_EXHAUSTED, which the agent retries."""
    wire.issuance.error = errors.Overloaded("queue_total")
    refused = await wire.call(channel)
    text = "the server is overloaded, try again"
    assert refused == Refused(code=StatusCode.RESOURCE_EXHAUSTED, text=text)


async def test_a_bug_tells_the_caller_nothing(
    wire: Wire, channel: aio.Channel, no_secrets: Secrets
) -> None:
    """Anything undocumented is INTERNAL; the traceback is logged, without tokens in it."""
    no_secrets.register("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln")
    wire.issuance.error = KeyError(SECRET_CAUSE)
    refused = await wire.call(channel)
    assert refused == Refused(code=StatusCode.INTERNAL, text="internal error")
    (line,) = await wire.call_lines(1)
    assert line["reason"] == "internal"
    assert line["level"] == "error"
    assert "Traceback" in str(line["exception"])
    assert "[redacted]" in str(line["exception"])
    assert wire.metric("meshsigner_calls_total", reason="internal") == 1


async def test_a_cancelled_future_under_a_call_is_a_bug(wire: Wire, channel: aio.Channel) -> None:
    """A CancelledError that nobody asked for leaves no caller without an answer."""
    wire.issuance.error = asyncio.CancelledError()
    refused = await wire.call(channel, timeout_s=3)
    assert refused == Refused(code=StatusCode.INTERNAL, text="internal error")


async def test_a_caller_who_gives_up(wire: Wire, channel: aio.Channel) -> None:
    """Its cancellation reaches the pipeline; the line says so and nothing is an error."""
    wire.issuance.gate.clear()
    call = asyncio.create_task(wire.call(channel, timeout_s=None))
    await until(lambda: wire.issuance.waiting == 1)
    call.cancel()
    await until(lambda: wire.issuance.cancelled == 1)
    (line,) = await wire.call_lines(1)
    assert (line["level"], line["code"], line["reason"]) == ("info", "CANCELLED", "cancelled")
    assert wire.metric("meshsigner_calls_total", reason="cancelled") == 1
    assert wire.metric("meshsigner_calls_in_flight") == 0


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0b"])
async def test_malformed_message(wire: Wire, channel: aio.Channel, data: bytes) -> None:
    """What is no protobuf, or text that is no UTF-8, is INVALID_ARGUMENT and reaches no one."""
    text = "CSR signing error (the request message is not valid protobuf)"
    refused = await wire.call(channel, data)
    assert refused == Refused(code=StatusCode.INVALID_ARGUMENT, text=text)
    assert wire.issuance.asks == []


async def test_call_without_message(channel: aio.Channel) -> None:
    """A client that ends its call without a message gets an answer, not silence."""
    method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
    call = channel.stream_unary(method, None, None)(iter(()), timeout=3)
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_texts_are_short(wire: Wire, channel: aio.Channel) -> None:
    """No error's text comes near the 16 KiB of trailers that ztunnel takes."""
    for error in EVERY_ERROR.values():
        wire.issuance.error = error
        refused = await wire.call(channel)
        assert isinstance(refused, Refused)
        assert len(refused.text) < 256
