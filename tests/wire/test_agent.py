"""The whole agent in this process: sockets, certificates, files that change, its end."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from meshsigner.agent.ca_client import CaSettings
from meshsigner.agent.process import Agent
from meshsigner.agent.schedule import Timing
from meshsigner.agent.settings import AgentSettings, SharedSettings, WorkloadSettings
from meshsigner.cli.agent_status import ask, render_status
from meshsigner.errors import ConfigurationError
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.spiffe import SpiffeId
from meshsigner.trust.writing import swap_files
from tests.fakes.authority import Ca
from tests.fakes.serving_tls import TestRoots
from tests.fakes.workload_ca import CaServer, FakeCa, serve
from tests.wire.harness import until
from tests.wire.sds import client_of, sotw_request

MESH = "spiffe://cluster.local/ns/bookinfo/sa"
NODE = "sidecar"


class World:
    """A CA's server, and settings of an agent that asks it.

    Attributes:
        ca: The CA behind the server.
        server: The server.
        roots: What its serving certificate chains to.
        folder: Where everything is.
        settings: The agent's.
    """

    def __init__(self, server: CaServer, roots: TestRoots, folder: Path) -> None:
        self.ca = server.ca
        self.server = server
        self.roots = roots
        self.folder = folder
        (folder / "root.pem").write_bytes(roots.pem)
        (folder / "token").write_text("a-token-of-somebody")
        self.settings = AgentSettings(
            ca=CaSettings(address=f"127.0.0.1:{server.port}", root_file=folder / "root.pem"),
            workloads=(self.workload("productpage", socket=folder / "sds" / "socket"),),
            timing=Timing(spread=timedelta(0)),
            status_socket=folder / "status",
        )

    def workload(self, name: str, **settings: object) -> WorkloadSettings:
        """Make settings of a workload."""
        return WorkloadSettings(
            name=name,
            identity=SpiffeId.parse(f"{MESH}/{name}"),
            token_file=self.folder / "token",
            **settings,  # type: ignore[arg-type]
        )

    def agent(self) -> Agent:
        """Make the agent."""
        names = [workload.name for workload in self.settings.workloads]
        return Agent(
            self.settings, metrics=AgentMetrics(names), random=lambda: 0.5, swap=swap_files
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        """Run the agent for the time of a test."""
        agent, serving = self.agent(), asyncio.Event()

        async def ready() -> None:
            serving.set()

        task = asyncio.create_task(agent.run(ready))
        waiting = asyncio.create_task(serving.wait())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            yield agent
            assert not task.done()
        finally:
            waiting.cancel()
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A CA that issues, and one workload."""
    roots = TestRoots()
    async with serve(FakeCa(), roots.issue("127.0.0.1")) as server:
        yield World(server, roots, tmp_path)


async def _told(socket: Path, *names: str) -> dict[str, bytes]:
    """Return each secret's content, waiting for the first certificate."""
    async with client_of(socket) as client:
        told = await client.fetch(sotw_request(*names))
        contents = {
            name: fields.get(2, fields.get(4, [b""]))[0] for name, fields in told.secrets.items()
        }
    assert all(isinstance(content, bytes) for content in contents.values())
    return contents  # type: ignore[return-value]


async def test_statement_62_socket_is_there_before_the_certificate(world: World) -> None:
    """Mode 0666 in a directory of 0750, and it speaks HTTP/2 at once, the CA away or not."""
    await world.server.stop()
    socket = world.folder / "sds" / "socket"
    async with world.running(), client_of(socket) as client:
        assert stat.S_IMODE(socket.stat().st_mode) == 0o666
        assert stat.S_IMODE(socket.parent.stat().st_mode) & 0o007 == 0
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            settings_frame = await reader.readexactly(9)
        assert settings_frame[3] == 4
        writer.close()
        stream = client.sotw()
        await stream.send(sotw_request("default", node=NODE))
        await stream.silent()
        port = world.server.port
        await world.server.start(world.roots.issue("127.0.0.1"), port)
        assert set((await stream.told()).secrets) == {"default"}


async def test_secrets_are_those_of_the_ca(world: World) -> None:
    """What the CA issued for the workload is what Envoy gets."""
    async with world.running():
        told = await _told(world.folder / "sds" / "socket", "default", "ROOTCA")
    assert world.ca.roots[0].pem in told["ROOTCA"]
    assert world.ca.issuer.pem in told["default"]
    assert world.server.calls[0]["authorization"] == "Bearer a-token-of-somebody"


async def test_status_tells_everything_but_secrets(world: World) -> None:
    """Names, versions, expiry, next renewal, subscribers; only the agent's user may ask."""
    socket = world.folder / "sds" / "socket"
    async with world.running() as agent, client_of(socket) as client:
        stream = client.sotw()
        await stream.send(sotw_request("default", node=NODE))
        await stream.told()
        assert stat.S_IMODE((world.folder / "status").stat().st_mode) == 0o600
        document = await asyncio.to_thread(ask, world.folder / "status")
        (workload,) = document["workloads"]
        svid = agent.workloads[0].store.svid
        assert svid is not None
        assert workload["serial"] == svid.serial
        assert workload["not_after"] == svid.not_after.isoformat()
        assert datetime.fromisoformat(workload["next_renewal"]) < svid.not_after
        secrets = {secret["name"]: secret for secret in workload["secrets"]}
        assert secrets["default"]["subscribers"] == 1
        assert secrets["ROOTCA"]["subscribers"] == 0
        assert secrets["default"]["version"] == agent.workloads[0].store.versions["default"]
        assert "PRIVATE KEY" not in json.dumps(document)
        words = render_status(document)
        assert svid.serial in words
        assert f"productpage: {MESH}/productpage" in words


async def test_status_before_the_first_certificate(world: World) -> None:
    """There is nothing yet, and why stands there."""
    await world.server.stop()
    async with world.running() as agent:
        await until(lambda: agent.workloads[0].life.last_failure != "")
        document = await asyncio.to_thread(ask, world.folder / "status")
    words = render_status(document)
    assert "none yet" in words
    assert "last failure  UNAVAILABLE" in words


async def test_health_is_each_workloads(world: World) -> None:
    """Ready once its certificate is served."""
    async with world.running() as agent:
        await until(lambda: all(part.ready for part in agent.health()))
        (part,) = agent.health()
    assert part.name == "certificate/productpage"


async def test_statement_62_other_workloads_have_sockets_of_their_own(world: World) -> None:
    """Each in a directory that only its group enters, with its own identity behind it."""
    names = ("productpage", "reviews")
    world.settings = replace(
        world.settings,
        workloads=tuple(
            world.workload(name, socket=world.folder / name / "socket", group=os.getegid())
            for name in names
        ),
    )
    async with world.running():
        for name in names:
            told = await _told(world.folder / name / "socket", "default")
            leaf = x509.load_pem_x509_certificate(_pem_in(told["default"]))
            assert f"{MESH}/{name}" in str(leaf.extensions)
            assert stat.S_IMODE((world.folder / name).stat().st_mode) == 0o750


def _pem_in(content: bytes) -> bytes:
    start = content.index(b"-----BEGIN CERTIFICATE-----")
    end = content.index(b"-----END CERTIFICATE-----")
    return content[start:end] + b"-----END CERTIFICATE-----\n"


async def test_statement_71_directory_that_all_may_enter_keeps_the_agent_from_starting(
    world: World,
) -> None:
    """All problems at once, in words; nothing is left running."""
    for name in ("productpage", "reviews"):
        (world.folder / name).mkdir()
        (world.folder / name).chmod(0o755)
    world.settings = replace(
        world.settings,
        workloads=tuple(
            world.workload(name, socket=world.folder / name / "socket", group=os.getegid())
            for name in ("productpage", "reviews")
        ),
    )
    with pytest.raises(ConfigurationError) as caught:
        await world.agent().run()
    assert len(caught.value.problems) == 2
    assert "chmod 0750" in caught.value.problems[0]
    assert not (world.folder / "productpage" / "socket").exists()


async def test_shared_socket_leads_to_private_ones(world: World) -> None:
    """Behind it each workload has a socket that nobody else can reach."""
    directory = world.folder / "private"
    world.settings = replace(
        world.settings,
        workloads=(world.workload("productpage", uid=os.geteuid()),),
        shared=SharedSettings(socket=world.folder / "shared", directory=directory),
    )
    async with world.running():
        assert "default" in await _told(world.folder / "shared", "default")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "productpage.sock").stat().st_mode) == 0o600


def test_workload_without_any_socket_is_refused(world: World) -> None:
    """Neither one of its own nor a shared one: nobody could ask."""
    world.settings = replace(world.settings, workloads=(world.workload("productpage"),))
    with pytest.raises(ConfigurationError, match="has no socket and shares none"):
        world.agent()


async def test_open_directory_of_the_only_workload_is_told(world: World) -> None:
    """In a pod it is the pod's own volume; elsewhere somebody should know."""
    (world.folder / "sds").mkdir()
    (world.folder / "sds").chmod(0o777)
    with capture_logs() as logs:
        async with world.running():
            pass
    assert "every user may enter the socket's directory" in {line["event"] for line in logs}


async def test_second_agent_is_refused(world: World) -> None:
    """It says who is in the way, and does the first no harm."""
    async with world.running():
        with pytest.raises(ConfigurationError, match="another process answers at"):
            await world.agent().run()
        assert "default" in await _told(world.folder / "sds" / "socket", "default")


async def test_sockets_are_gone_when_the_agent_is(world: World) -> None:
    """An Envoy that looks for it sees at once that nobody is there."""
    async with world.running():
        pass
    assert not (world.folder / "sds" / "socket").exists()
    assert not (world.folder / "status").exists()


async def test_certificate_survives_a_restart_without_the_ca(world: World) -> None:
    """With files to go on from, the same version is served while the CA is away."""
    (workload,) = world.settings.workloads
    world.settings = replace(
        world.settings,
        workloads=(replace(workload, output_directory=world.folder),),
    )
    socket = world.folder / "sds" / "socket"
    async with world.running():
        before = await _told(socket, "default")
        await until((world.folder / "key.pem").exists)
    await world.server.stop()
    async with world.running():
        assert await _told(socket, "default") == before


def _crl(ca: Ca, *revoked: int) -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - timedelta(hours=1))
        .next_update(now + timedelta(days=1))
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)


async def test_statement_70_crl_file_is_followed(world: World) -> None:
    """A changed CRL is pushed with the roots; the certificate stays."""
    crl_file = world.folder / "ca-crl.pem"
    crl_file.write_bytes(_crl(world.ca.issuer) + _crl(world.ca.roots[0]))
    (workload,) = world.settings.workloads
    world.settings = replace(world.settings, workloads=(replace(workload, crl_file=crl_file),))
    async with world.running(), client_of(world.folder / "sds" / "socket") as client:
        stream = client.sotw()
        await stream.send(sotw_request("default", "ROOTCA", node=NODE))
        before = await stream.told()
        assert crl_file.read_bytes() in _context(before.secrets["ROOTCA"])
        crl_file.write_bytes(_crl(world.ca.issuer, 0xBAD) + _crl(world.ca.roots[0]))
        after = await stream.told()
        assert set(after.secrets) == {"ROOTCA"}
        assert crl_file.read_bytes() in _context(after.secrets["ROOTCA"])


def _context(fields: object) -> bytes:
    assert isinstance(fields, dict)
    (context,) = fields[4]
    assert isinstance(context, bytes)
    return context


async def test_changed_root_renews_at_once_where_asked(world: World) -> None:
    """The certificate of the CA connection's new root comes without waiting for half of a life."""
    world.settings = replace(world.settings, renew_on_root_change=True)
    async with world.running() as agent:
        await until(lambda: len(world.ca.csrs) == 1)
        other = TestRoots()
        (world.folder / "root.pem").write_bytes(world.roots.pem + other.pem)
        await until(lambda: len(world.ca.csrs) == 2)
        (world.folder / "root.pem").unlink()
        await asyncio.sleep(1.2)
        (world.folder / "root.pem").write_bytes(world.roots.pem + other.pem)
        await asyncio.sleep(1.2)
        assert len(world.ca.csrs) == 2
        assert agent.workloads[0].life.health().ready


async def test_changed_root_is_left_to_the_next_renewal_otherwise(world: World) -> None:
    """By default nothing asks: a mesh would do so as one."""
    async with world.running():
        await until(lambda: len(world.ca.csrs) == 1)
        (world.folder / "root.pem").write_bytes(world.roots.pem + TestRoots().pem)
        await asyncio.sleep(1.5)
        assert len(world.ca.csrs) == 1


async def test_attempts_are_told(world: World) -> None:
    """Each repeated attempt has a line with the CA's words and the wait."""
    world.server.statuses = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "the server is overloaded")]
    with capture_logs() as logs:
        async with world.running():
            await _told(world.folder / "sds" / "socket", "default")
    (line,) = [line for line in logs if line["event"] == "asking the CA again"]
    assert line["cause"] == "RESOURCE_EXHAUSTED: the server is overloaded"
    assert line["again_after_s"] == 0.1


async def test_bug_in_a_loop_ends_the_agent(world: World) -> None:
    """Whoever started it starts it again; its sockets are free for that."""
    agent = world.agent()
    broken: Callable[[], None] = agent.workloads[0].life._restore

    def fail() -> None:
        broken()
        raise ZeroDivisionError

    agent.workloads[0].life._restore = fail  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup) as caught:
        await agent.run()
    assert caught.group_contains(ZeroDivisionError)
    assert not (world.folder / "sds" / "socket").exists()
