"""The agent as a client of a CA: headers, retries, and a connection that follows the root file."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from meshsigner.agent.ca_client import RETRIED, CaClient, CallFailed, CaSettings
from meshsigner.agent.keys import build_csr
from tests.fakes.serving_tls import TestRoots
from tests.fakes.workload_ca import CaServer, FakeCa, p256, serve
from tests.secret_scan import Secrets

NAME = "istiod.istio-system.svc"
IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
TOKEN = "service-account-token-of-productpage"
CSR = build_csr(p256(), IDENTITY).decode()
GIVEN_UP = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNKNOWN,
}


@dataclass(kw_only=True)
class World:
    """A CA's server, and a client of it.

    Attributes:
        server: The server.
        roots: What its serving certificate chains to.
        root_file: Where the client finds them.
        token_file: Where the client finds its token.
        retries: Code and wait of each repeated attempt, seconds.
        between: What happens after each attempt that is repeated.
    """

    server: CaServer
    roots: TestRoots
    root_file: Path
    token_file: Path
    retries: list[tuple[str, float]] = field(default_factory=list)
    between: Callable[[], object] = lambda: None

    def client(self, random: float = 0.5, **settings: object) -> CaClient:
        """Make a client."""
        return CaClient(
            CaSettings(
                address=f"127.0.0.1:{self.server.port}",
                root_file=self.root_file,
                **settings,  # type: ignore[arg-type]
            ),
            token_file=self.token_file,
            random=lambda: random,
            retrying=self._retrying,
        )

    def _retrying(self, failed: CallFailed, wait_s: float) -> None:
        self.retries.append((failed.code, wait_s))
        self.between()

    async def fails(self, client: CaClient | None = None) -> CallFailed:
        """Ask, and return how that failed."""
        with pytest.raises(CallFailed) as caught:
            await (client or self.client()).create_certificate(CSR, 3600)
        return caught.value


@pytest.fixture
async def world(tmp_path: Path, no_secrets: Secrets) -> AsyncIterator[World]:
    """A CA that issues."""
    roots = TestRoots()
    (tmp_path / "root.pem").write_bytes(roots.pem)
    (tmp_path / "token").write_text(f" {no_secrets.register(TOKEN)}\n")
    async with serve(FakeCa(), roots.issue("127.0.0.1")) as server:
        yield World(
            server=server,
            roots=roots,
            root_file=tmp_path / "root.pem",
            token_file=tmp_path / "token",
        )


async def test_call_is_istio_agents(world: World) -> None:
    """Bearer token without blanks, cluster id, CertSigner always, the wished lifetime."""
    chain = await world.client().create_certificate(CSR, 3600)
    (headers,), (message,) = world.server.calls, world.server.messages
    assert len(chain) == 3
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["clusterid"] == "Kubernetes"
    assert (message.csr, message.validity_duration) == (CSR, 3600)
    assert dict(message.metadata) == {"CertSigner": ""}


async def test_settings_reach_the_wire(world: World) -> None:
    """Another cluster, a named signer and headers of the operator's own."""
    client = world.client(
        cluster_id="east", cert_signer="vault", headers=(("x-tenant", "bookinfo"),)
    )
    await client.create_certificate(CSR, 3600)
    (headers,), (message,) = world.server.calls, world.server.messages
    assert (headers["clusterid"], headers["x-tenant"]) == ("east", "bookinfo")
    assert dict(message.metadata) == {"CertSigner": "vault"}


async def test_token_is_read_for_each_call(world: World, no_secrets: Secrets) -> None:
    """The kubelet rotates it; a missing or empty one is left out, as istio-agent does."""
    client = world.client()
    await client.create_certificate(CSR, 3600)
    world.token_file.write_text(no_secrets.register("the rotated token".replace(" ", "-")))
    await client.create_certificate(CSR, 3600)
    world.token_file.write_text("\n")
    await client.create_certificate(CSR, 3600)
    world.token_file.unlink()
    await client.create_certificate(CSR, 3600)
    sent = [call.get("authorization") for call in world.server.calls]
    assert sent == [f"Bearer {TOKEN}", "Bearer the-rotated-token", None, None]


@pytest.mark.parametrize("content", [b"two words", b"\xff\xfe", "tokén".encode(), b"a\nb"])
async def test_token_file_with_something_else_is_told_and_not_sent(
    world: World, content: bytes
) -> None:
    """No header could carry it; the content is not repeated."""
    world.token_file.write_bytes(content)
    failed = await world.fails()
    assert failed.code == "UNAUTHENTICATED"
    assert str(failed) == f"UNAUTHENTICATED: {world.token_file} holds no token"
    assert world.server.calls == []


@pytest.mark.parametrize("code", sorted(RETRIED))
async def test_passing_faults_are_asked_again(world: World, code: str) -> None:
    """Istio's effective set: after each of these the same call may pass."""
    world.server.statuses = [(grpc.StatusCode[code], "in a moment")] * 2
    assert len(await world.client().create_certificate(CSR, 3600)) == 3
    assert [retry for retry, _ in world.retries] == [code, code]
    assert len(world.server.calls) == 3


@pytest.mark.parametrize("code", GIVEN_UP, ids=lambda code: code.name)
async def test_other_statuses_are_final(world: World, code: grpc.StatusCode) -> None:
    """One shot, as istio-agent: CANCELLED and DEADLINE_EXCEEDED too, whatever its list says."""
    world.server.statuses = [(code, "no")]
    failed = await world.fails()
    assert (failed.code, failed.text) == (code.name, "no")
    assert len(world.server.calls) == 1


async def test_attempts_and_waits_are_istios(world: World) -> None:
    """Five attempts; 100, 200, 400 and 800 ms between them."""
    world.server.statuses = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")] * 9
    assert (await world.fails()).code == "RESOURCE_EXHAUSTED"
    assert len(world.server.calls) == 5
    assert [round(wait_s, 3) for _, wait_s in world.retries] == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize(("random", "first_s"), [(0.0, 0.09), (1.0, 0.11)])
async def test_waits_have_a_tenth_of_jitter(world: World, random: float, first_s: float) -> None:
    """Ten per cent either way."""
    world.server.statuses = [(grpc.StatusCode.ABORTED, "again")]
    await world.client(random).create_certificate(CSR, 3600)
    ((code, wait_s),) = world.retries
    assert (code, round(wait_s, 6)) == ("ABORTED", first_s)


async def test_overloaded_server_is_not_given_another_handshake(world: World) -> None:
    """The connection that is there is used again; after UNAVAILABLE a new one is made."""
    peers = world.server.peers
    world.server.statuses = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")]
    await world.client().create_certificate(CSR, 3600)
    assert len(set(peers)) == 1
    peers.clear()
    world.server.statuses = [(grpc.StatusCode.UNAVAILABLE, "draining")]
    await world.client().create_certificate(CSR, 3600)
    assert len(set(peers)) == 2


async def test_changed_root_file_is_taken_within_a_burst(world: World) -> None:
    """A server under a new root is believed as soon as the file has that root."""
    world.root_file.write_bytes(TestRoots().pem)
    world.between = lambda: world.root_file.write_bytes(world.roots.pem)
    assert len(await world.client().create_certificate(CSR, 3600)) == 3
    assert [code for code, _ in world.retries] == ["UNAVAILABLE"]


async def test_server_that_is_away_is_unavailable(world: World) -> None:
    """Nobody there: five attempts, then the reason in words."""
    await world.server.stop()
    failed = await world.fails()
    assert failed.code == "UNAVAILABLE"
    assert len(world.retries) == 4


async def test_server_that_comes_back_within_the_burst_is_found(world: World) -> None:
    """A restart of the CA that takes less than a second is not noticed."""
    port = world.server.port
    await world.server.stop()
    client = world.client()

    async def back() -> None:
        await world.server.start(world.roots.issue("127.0.0.1"), port)

    chain, _ = await asyncio.gather(client.create_certificate(CSR, 3600), back())
    assert len(chain) == 3


async def test_server_of_another_name_is_refused(world: World) -> None:
    """The serving certificate must bear the name that is expected."""
    assert (await world.fails(world.client(name="istiod.elsewhere.svc"))).code == "UNAVAILABLE"
    assert world.server.calls == []


async def test_server_that_hangs_is_given_up(world: World) -> None:
    """Istio's agent would wait for ever; ours has a limit for each attempt."""
    world.server.ca.gate.clear()
    assert (await world.fails(world.client(timeout_s=0.1))).code == "DEADLINE_EXCEEDED"
    world.server.ca.gate.set()


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot read the root file"), (b"junk", "no PEM certificates")]
)
async def test_root_file_that_is_none_is_told(
    world: World, content: bytes | None, words: str
) -> None:
    """Instead of a handshake that fails without a reason."""
    if content is None:
        world.root_file.unlink()
    else:
        world.root_file.write_bytes(content)
    failed = await world.fails()
    assert failed.code == "UNAVAILABLE"
    assert words in failed.text
