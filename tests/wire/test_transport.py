"""TLS, keepalive, health, the port: what clients meet before the first call."""

import asyncio
import os
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.logs import LineWriter, LogFormat, Renderer
from meshsigner.rpc.limits import Limits
from meshsigner.rpc.server import RpcServer
from tests.secret_scan import Secrets
from tests.wire.harness import NAME, Wire, serving, until
from tests.wire.raw_http2 import raw_http2

MESSAGE = IstioCertificateRequest(csr="csr").SerializeToString()


async def _handshake(wire: Wire, context: ssl.SSLContext, name: str = NAME) -> ssl.SSLObject:
    """Connect and return the TLS session."""
    _, writer = await asyncio.open_connection(
        "127.0.0.1", wire.port, ssl=context, server_hostname=name
    )
    session = writer.get_extra_info("ssl_object")
    assert isinstance(session, ssl.SSLObject)
    writer.close()
    return session


async def test_statement_47_name_and_roots(wire: Wire) -> None:
    """The certificate names the host that clients dial and chains to the published roots."""
    session = await _handshake(wire, wire.tls())
    presented = x509.load_der_x509_certificate(session.getpeercert(binary_form=True) or b"")
    san = presented.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [NAME]
    with pytest.raises(ssl.SSLCertVerificationError):
        await _handshake(wire, wire.tls(), "other.host")
    with pytest.raises(ssl.SSLCertVerificationError):
        await _handshake(wire, ssl.create_default_context())


async def test_statement_48_tls_1_3(wire: Wire) -> None:
    """TLS 1.3 with AES-GCM and ALPN h2 is spoken."""
    session = await _handshake(wire, wire.tls())
    assert session.version() == "TLSv1.3"
    assert session.selected_alpn_protocol() == "h2"
    assert (session.cipher() or ("",))[0] in {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}


@pytest.mark.parametrize(
    "cipher", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"]
)
async def test_statement_48_tls_1_2(wire: Wire, cipher: str) -> None:
    """TLS 1.2 with ECDHE and AES-GCM is spoken, each of its suites."""
    context = wire.tls(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)
    session = await _handshake(wire, context)
    assert (session.version(), (session.cipher() or ("",))[0]) == ("TLSv1.2", cipher)
    assert session.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("group", ["prime256v1", "secp384r1", "X25519"])
async def test_statement_48_key_exchange_groups(wire: Wire, group: str) -> None:
    """A client that offers one group alone gets through: P-256, P-384, X25519."""
    context = wire.tls()
    context.set_ecdh_curve(group)
    assert (await _handshake(wire, context)).version() == "TLSv1.3"


async def test_statement_48_x25519mlkem768(wire: Wire) -> None:
    """A gRPC client agrees on the post-quantum group with our credentials."""
    # A client that offers nothing else is one of the conformance tests.

    async def tell_group(_: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        return b",".join(context.auth_context()["ssl_negotiated_key_exchange_group"])

    method = grpc.unary_unary_rpc_method_handler(tell_group)
    server = aio.server(handlers=(grpc.method_handlers_generic_handler("a.B", {"C": method}),))
    port = server.add_secure_port("127.0.0.1:0", wire.certificate.credentials())
    await server.start()
    trusted = grpc.ssl_channel_credentials(wire.roots.pem)
    async with aio.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
        assert await channel.unary_unary("/a.B/C", None, None)(b"") == b"X25519MLKEM768"
    await server.stop(None)


async def test_statement_49_reload_keeps_connections(wire: Wire) -> None:
    """A new pair is presented to new connections; old ones go on, calls in flight too."""
    wire.issuance.gate.clear()
    async with raw_http2(wire) as old, wire.channel() as channel:
        waiting = asyncio.create_task(wire.call(channel))
        stream = old.open()
        old.send(stream, MESSAGE)
        await until(lambda: wire.issuance.waiting == 2)
        before = await _presented(wire)
        wire.present(wire.roots.issue(NAME))
        assert wire.certificate.reload()
        assert await _presented(wire) != before
        wire.issuance.gate.set()
        assert isinstance(await waiting, list)
        assert (await old.status(stream))[0] == 0
        again = old.open()
        old.send(again, MESSAGE)
        assert (await old.status(again))[0] == 0
    assert wire.metric("meshsigner_serving_certificate_reloads_total", result="taken") == 2


async def _presented(wire: Wire) -> int:
    session = await _handshake(wire, wire.tls())
    certificate = session.getpeercert(binary_form=True) or b""
    return x509.load_der_x509_certificate(certificate).serial_number


async def test_statement_49_a_bad_pair_is_not_taken(wire: Wire) -> None:
    """A key that does not belong, or half a file, is logged once and the old pair kept."""
    before = await _presented(wire)
    certificate_file, key_file = wire.files
    key_file.write_bytes(wire.roots.issue("other").key)
    assert not wire.certificate.reload()
    certificate_file.write_bytes(certificate_file.read_bytes()[:200])
    assert not wire.certificate.reload()
    assert not wire.certificate.reload()
    assert await _presented(wire) == before
    kept = [line for line in wire.lines if str(line["event"]).startswith("new serving certificate")]
    assert [line["level"] for line in kept] == ["error", "error"]
    assert "does not belong" in str(kept[0]["cause"])
    assert wire.metric("meshsigner_serving_certificate_reloads_total", result="refused") == 2


async def test_statement_49_many_reloads_under_handshakes(wire: Wire) -> None:
    """Handshakes during reloads always meet one whole pair, and the last one wins."""
    for _ in range(20):
        identity = wire.roots.issue(NAME)
        wire.present(identity)
        shaking = [asyncio.create_task(_presented(wire)) for _ in range(3)]
        assert wire.certificate.reload()
        await asyncio.gather(*shaking)
        serial = x509.load_pem_x509_certificate(identity.certificate).serial_number
        assert await _presented(wire) == serial


async def test_statement_50_pings_during_a_call(tmp_path: Path, no_secrets: Secrets) -> None:
    """Pings as often as allowed never end a call; more frequent ones end the connection."""
    assert Limits().min_ping_interval_s <= 15
    async with serving(tmp_path, no_secrets, Limits(min_ping_interval_s=0.05)) as wire:
        wire.issuance.gate.clear()
        async with raw_http2(wire) as polite, raw_http2(wire) as rude:
            stream = polite.open()
            polite.send(stream, MESSAGE)
            rude.send(rude.open(), MESSAGE)
            await until(lambda: wire.issuance.waiting == 2)
            for _ in range(6):
                await asyncio.sleep(0.2)
                polite.ping()
            await rude.ping_until_closed()
            wire.issuance.gate.set()
            assert (await polite.status(stream))[0] == 0
            await until(lambda: polite.pings_answered() == 6)


@pytest.mark.parametrize("service", ["", "istio.v1.auth.IstioCertificateService"])
async def test_health_follows_readiness(wire: Wire, channel: aio.Channel, service: str) -> None:
    """The health check says SERVING while every part is ready, and NOT_SERVING otherwise."""
    assert await _health(channel, service) == HealthCheckResponse.SERVING
    wire.health = Health(name="issuer", ready=False, detail="expired")
    assert await _health(channel, service) == HealthCheckResponse.NOT_SERVING
    wire.health = Health(name="issuer", ready=True, detail="renewed")
    assert await _health(channel, service) == HealthCheckResponse.SERVING


async def _health(channel: aio.Channel, service: str) -> int:
    method = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
    answer = await method(HealthCheckRequest(service=service).SerializeToString(), timeout=5)
    return int(HealthCheckResponse.FromString(answer).status)


@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("Check", b"\x0a\x05other", grpc.StatusCode.NOT_FOUND),
        ("Check", b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("Watch", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("List", b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_health_of_something_else(
    channel: aio.Channel, method: str, data: bytes, code: grpc.StatusCode
) -> None:
    """Unknown services, garbage and the health service's other methods have their statuses."""
    with pytest.raises(aio.AioRpcError) as caught:
        await channel.unary_unary(f"/grpc.health.v1.Health/{method}", None, None)(data, timeout=5)
    assert caught.value.code() is code


async def test_port_that_is_taken(wire: Wire) -> None:
    """A second server on the same port fails and names the port and its holder."""
    second = RpcServer(
        wire.issuance,
        listen=f"127.0.0.1:{wire.port}",
        certificate=wire.certificate,
        readiness=wire.readiness,
        metrics=wire.metrics,
        lines=LineWriter(Renderer(LogFormat.JSON), lost=wire.metrics.lines_lost),
    )
    with pytest.raises(ConfigurationError) as caught:
        await second.start()
    assert str(wire.port) in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)


async def test_address_that_is_not_ours(wire: Wire) -> None:
    """An address of another machine cannot be listened on, and the error says which."""
    foreign = RpcServer(
        wire.issuance,
        listen="192.0.2.1:15012",
        certificate=None,
        readiness=wire.readiness,
        metrics=wire.metrics,
        lines=LineWriter(Renderer(LogFormat.JSON), lost=wire.metrics.lines_lost),
    )
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:15012"):
        await foreign.start()


async def test_statement_40_without_tls_calls_are_not_secure(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """A server without TLS tells the pipeline so, which believes no bearer token then."""
    async with serving(tmp_path, no_secrets) as wire:
        plain = RpcServer(
            wire.issuance,
            listen="127.0.0.1:0",
            certificate=None,
            readiness=wire.readiness,
            metrics=wire.metrics,
            lines=LineWriter(Renderer(LogFormat.JSON), lost=wire.metrics.lines_lost),
        )
        await plain.start()
        async with aio.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
            assert isinstance(await wire.call(channel), list)
        await plain.drain(grace_s=0.5)
        assert not wire.issuance.asks[0].credentials.secure
