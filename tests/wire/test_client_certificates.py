"""Listeners for clients with certificates, and for a proxy in front of the server."""

import asyncio
import dataclasses
import os
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
from cryptography import x509
from grpc import aio

from meshsigner.errors import ConfigurationError
from meshsigner.model import Credentials
from meshsigner.rpc.limits import Limits
from meshsigner.rpc.mutual_tls import MutualTls
from meshsigner.rpc.request import FORWARDED
from meshsigner.rpc.serving_certificate import ServingCertificate
from meshsigner.rpc.side import TcpPlace, UnixPlace
from tests.fakes.authority import GOOD, Ca, make_ca
from tests.fakes.client_certificates import Leaf, Made, make_leaf
from tests.secret_scan import Secrets
from tests.wire.harness import NAME, Refused, Wire, serving

_NOW = datetime.now(UTC)
_SHAPE = dataclasses.replace(
    GOOD, not_before=_NOW - timedelta(days=1), not_after=_NOW + timedelta(days=1)
)
_LEAF = Leaf(not_before=_NOW - timedelta(hours=1), not_after=_NOW + timedelta(hours=1))


class _Side:
    """A server with a place of each kind beside its first port.

    Attributes:
        wire: The server.
        roots: What clients' certificates must chain to.
        socket: Path of the Unix socket.
    """

    def __init__(self, socket: Path) -> None:
        self.wire: Wire
        self.socket = socket
        self.root = make_ca("mesh root", shape=_SHAPE)
        self.issuer = make_ca("mesh issuer", issuer=self.root, shape=_SHAPE)
        self.roots = self.root.pem.decode()

    def places(self, certificate: ServingCertificate) -> list[TcpPlace | UnixPlace]:
        credentials = MutualTls(certificate, lambda: self.roots).credentials
        return [
            TcpPlace(listen="127.0.0.1:0", credentials=credentials),
            TcpPlace(listen="127.0.0.1:0", credentials=credentials, believes_proxy=True),
            UnixPlace(path=self.socket),
        ]

    def port(self, number: int) -> int:
        where = self.wire.server._sides[number].where
        assert isinstance(where, int)
        return where

    def leaf(self, issuer: Ca | None = None, leaf: Leaf = _LEAF) -> Made:
        signer = issuer or self.issuer
        return make_leaf(signer, leaf, chain=[signer])

    def channel(self, port: int, client: Made | None) -> aio.Channel:
        pair = (client.key_pem, client.chain_pem) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(self.wire.roots.pem, *pair)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", NAME)]
        return aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)

    async def ask(
        self, channel: aio.Channel, *headers: tuple[str, str]
    ) -> tuple[list[str] | Refused, Credentials | None]:
        async with channel:
            answer = await self.wire.call(channel, headers=headers, timeout_s=5)
        asks = self.wire.issuance.asks
        return answer, asks[-1].credentials if asks else None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose name is short enough for sockets in it."""
    with TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
async def side(tmp_path: Path, folder: Path, no_secrets: Secrets) -> AsyncIterator[_Side]:
    """A server with places beside its first port."""
    made = _Side(folder / "xfcc.sock")
    async with serving(tmp_path, no_secrets, beside=made.places) as wire:
        made.wire = wire
        yield made


async def test_a_certificate_under_our_roots_is_handed_on(side: _Side) -> None:
    """Leaf and what the client sent along, in this order, and the token beside it."""
    client = side.leaf()
    channel = side.channel(side.port(0), client)
    answer, shown = await side.ask(channel, ("authorization", "Bearer token-of-foo"))
    assert not isinstance(answer, Refused)
    assert shown is not None
    assert x509.load_pem_x509_certificates(shown.peer_chain_pem) == [
        client.certificate,
        side.issuer.certificate,
    ]
    assert (shown.secure, shown.forwarded) == (True, None)
    assert shown.bearer_token == "token-of-foo"


@pytest.mark.parametrize("kind", ["none", "foreign", "expired"])
async def test_statement_41_the_handshake_ends_without_a_good_certificate(
    side: _Side, kind: str
) -> None:
    """None, one of another mesh and an expired one never reach the service."""
    other = make_ca("other root", shape=_SHAPE)
    expired = dataclasses.replace(_LEAF, not_after=_NOW - timedelta(minutes=1))
    client = {"none": None, "foreign": side.leaf(other), "expired": side.leaf(leaf=expired)}[kind]
    answer, shown = await side.ask(side.channel(side.port(0), client))
    assert isinstance(answer, Refused)
    assert answer.code is grpc.StatusCode.UNAVAILABLE
    assert shown is None


async def test_roots_are_followed_without_a_restart(side: _Side) -> None:
    """The next handshake knows the new roots, and no longer a root that is gone."""
    fresh = make_ca("new root", shape=_SHAPE)
    assert isinstance((await side.ask(side.channel(side.port(0), side.leaf(fresh))))[0], Refused)
    side.roots += fresh.pem.decode()
    for issuer in (fresh, None):
        answer, _ = await side.ask(side.channel(side.port(0), side.leaf(issuer)))
        assert not isinstance(answer, Refused)
    side.roots = fresh.pem.decode()
    assert isinstance((await side.ask(side.channel(side.port(0), side.leaf())))[0], Refused)


async def test_without_roots_nobody_is_let_in(side: _Side) -> None:
    """A server that has no roots yet knows no client."""
    side.roots = ""
    assert isinstance((await side.ask(side.channel(side.port(0), side.leaf())))[0], Refused)


async def test_the_header_is_handed_on_where_a_proxy_is_believed(side: _Side) -> None:
    """From the Unix socket, and from the port for proxies beside the proxy's own certificate."""
    headers = ((FORWARDED, "Cert=a"), (FORWARDED, "Cert=b"))
    proxy = side.leaf()
    _, shown = await side.ask(side.channel(side.port(1), proxy), *headers)
    assert shown is not None
    assert shown.forwarded == ("Cert=a", "Cert=b")
    assert shown.peer_chain_pem.startswith(proxy.pem)
    _, shown = await side.ask(aio.insecure_channel(f"unix:{side.socket}"), *headers)
    assert shown is not None
    assert (shown.forwarded, shown.peer_chain_pem, shown.secure) == (
        ("Cert=a", "Cert=b"),
        b"",
        True,
    )


async def test_the_header_is_ignored_and_counted_elsewhere(side: _Side) -> None:
    """On the first port, and on the port where clients show their own certificate."""
    for channel in (side.wire.channel(), side.channel(side.port(0), side.leaf())):
        answer, shown = await side.ask(channel, (FORWARDED, "Cert=a"))
        assert not isinstance(answer, Refused)
        assert shown is not None
        assert shown.forwarded is None
    lines = await side.wire.call_lines(2)
    assert [line["forwarded_ignored"] for line in lines] == [True, True]
    assert side.wire.metric("meshsigner_forwarded_certificates_ignored_total") == 2


async def test_a_token_passes_a_proxy(side: _Side) -> None:
    """Without the header the call is the proxied client's own."""
    channel = aio.insecure_channel(f"unix:{side.socket}")
    _, shown = await side.ask(channel, ("authorization", "Bearer token-of-foo"))
    assert shown is not None
    assert (shown.forwarded, shown.bearer_token) == ((), "token-of-foo")


async def test_the_socket_is_its_owners_alone(side: _Side) -> None:
    """Mode 0600 from its first moment."""
    assert stat.S_IMODE(side.socket.lstat().st_mode) == 0o600


async def test_a_proxys_calls_share_no_connections_bound(
    tmp_path: Path, folder: Path, no_secrets: Secrets
) -> None:
    """The bound of a connection is for a client, not for all behind a proxy."""
    made = _Side(folder / "xfcc.sock")
    limits = Limits(max_calls_per_connection=1)
    async with serving(tmp_path, no_secrets, limits, beside=made.places) as made.wire:
        made.wire.issuance.gate.clear()
        async with aio.insecure_channel(f"unix:{made.socket}") as channel:
            calls = [made.wire.call(channel, timeout_s=5) for _ in range(3)]
            waiting = [asyncio.ensure_future(call) for call in calls]
            while made.wire.issuance.waiting < 3:
                await asyncio.sleep(0.01)
            made.wire.issuance.gate.set()
            assert not any(isinstance(answer, Refused) for answer in await asyncio.gather(*waiting))


async def test_a_place_that_is_taken_is_named(
    tmp_path: Path, side: _Side, no_secrets: Secrets
) -> None:
    """A second server does not take the socket of one that answers."""
    with pytest.raises(ConfigurationError, match=os.fspath(side.socket)):
        async with serving(tmp_path, no_secrets, beside=side.places):
            pass


async def test_a_server_that_ends_gives_every_place_back(
    tmp_path: Path, folder: Path, no_secrets: Secrets
) -> None:
    """Nobody can connect any more, and the socket is gone."""
    made = _Side(folder / "xfcc.sock")
    async with serving(tmp_path, no_secrets, beside=made.places) as made.wire:
        ports = [made.port(0), made.port(1)]
    assert not made.socket.exists()
    for port in ports:
        assert isinstance((await made.ask(made.channel(port, made.leaf())))[0], Refused)
