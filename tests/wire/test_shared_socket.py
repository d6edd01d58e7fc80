"""One socket for several workloads: whose process calls is proven before a key leaves."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meshsigner.agent.shared_socket import UNMAPPED_ID, Owner, SharedSocket, check_owners
from meshsigner.errors import ConfigurationError
from meshsigner.observe.agent_metrics import AgentMetrics
from tests.fakes.workload_ca import make_svid
from tests.wire.harness import until
from tests.wire.sds import Client, Sds, client_of, serving_sds, sotw_request

UID, GID = os.geteuid(), os.getegid()
PRODUCTPAGE, REVIEWS = 41_001, 41_002
needs_root = pytest.mark.skipif(UID != 0, reason="only root becomes another user")


def _owner(folder: Path, workload: str = "productpage", **ids: int | None) -> Owner:
    given: dict[str, int | None] = {"uid": UID, "gid": None, **ids}
    uid = given["uid"]
    assert uid is not None
    return Owner(workload=workload, uid=uid, gid=given["gid"], socket=folder / workload / "socket")


class Shared:
    """A shared socket with workloads behind it.

    Attributes:
        path: The socket.
        metrics: Counts who was refused.
        workloads: Each one's server by its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = AgentMetrics([])
        self.workloads: dict[str, Sds] = {}

    @property
    def refused(self) -> float:
        """How many connections were refused."""
        return self.metrics.registry.get_sample_value("meshsigner_agent_peers_refused_total") or 0


@asynccontextmanager
async def _sharing(folder: Path, *owners: Owner) -> AsyncIterator[Shared]:
    shared = Shared(folder / "shared")
    async with AsyncExitStack() as closing:
        for owner in owners:
            owner.socket.parent.mkdir()
            sds, _ = await closing.enter_async_context(serving_sds(owner.socket.parent))
            sds.store.take(make_svid(key=f"key of {owner.workload}", leaf=owner.workload))
            shared.workloads[owner.workload] = sds
        listener = SharedSocket(shared.path, owners, shared.metrics)
        await listener.start()
        closing.push_async_callback(listener.stop)
        yield shared


async def _leaf_of(client: Client) -> bytes:
    told = await client.fetch(sotw_request("default"))
    (certificate,) = told.secrets["default"][2]
    assert isinstance(certificate, bytes)
    return certificate


async def test_own_process_gets_its_workloads_secret(tmp_path: Path) -> None:
    """Connections are passed on: the whole protocol works through the shared socket."""
    async with _sharing(tmp_path, _owner(tmp_path)) as shared, client_of(shared.path) as client:
        assert b"key of productpage" in await _leaf_of(client)
        stream = client.sotw()
        await stream.send(sotw_request("default", node="n"))
        await stream.told()
        shared.workloads["productpage"].store.take(make_svid(leaf="next"))
        assert set((await stream.told()).secrets) == {"default"}


async def test_group_tells_workloads_of_one_user_apart(tmp_path: Path) -> None:
    """Of two workloads with one user the caller's group decides, which it cannot choose."""
    mine, others = _owner(tmp_path, gid=GID), _owner(tmp_path, "reviews", gid=GID + 1)
    async with _sharing(tmp_path, others, mine) as shared, client_of(shared.path) as client:
        assert b"key of productpage" in await _leaf_of(client)


async def test_statement_71_process_of_no_workload_gets_nothing(tmp_path: Path) -> None:
    """It is closed before a byte is heard, counted, and told with user and group."""
    async with _sharing(tmp_path, _owner(tmp_path, uid=UID + 1)) as shared:
        with capture_logs() as logs:
            reader, writer = await asyncio.open_unix_connection(shared.path)
            assert await reader.read() == b""
            writer.close()
        assert shared.refused == 1
    (line,) = logs
    assert (line["event"], line["uid"], line["gid"]) == (
        "process refused at the shared socket",
        UID,
        GID,
    )


async def test_statement_71_wrong_group_gets_nothing(tmp_path: Path) -> None:
    """The right user in another group is another workload, or none."""
    async with _sharing(tmp_path, _owner(tmp_path, gid=GID + 1)) as shared:
        reader, writer = await asyncio.open_unix_connection(shared.path)
        assert await reader.read() == b""
        writer.close()


async def _ask_as(shared: Shared, uid: int, name: str) -> str:
    """Ask as another user, in a process that has given up being root."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.wire.connect_as"),
        *(str(uid), str(uid), str(shared.path), name),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    return out.decode().strip()


@needs_root
async def test_statement_71_process_of_another_user_gets_no_key(tmp_path: Path) -> None:
    """A real process of another user: its own secret, nobody else's, and a stranger none."""
    _let_in(tmp_path)
    owners = [
        _owner(tmp_path, "productpage", uid=PRODUCTPAGE),
        _owner(tmp_path, "reviews", uid=REVIEWS),
    ]
    async with _sharing(tmp_path, *owners) as shared:
        assert await _ask_as(shared, PRODUCTPAGE, "default") == "default"
        assert (await _ask_as(shared, 41_003, "default")).startswith("UNAVAILABLE")
        assert shared.refused >= 1


@needs_root
async def test_statement_71_same_user_gets_no_key_of_another_workload(tmp_path: Path) -> None:
    """Asking by name does not help: there is but the caller's own workload behind the socket."""
    _let_in(tmp_path)
    owners = [
        _owner(tmp_path, "productpage", uid=PRODUCTPAGE),
        _owner(tmp_path, "reviews", uid=REVIEWS),
    ]
    async with _sharing(tmp_path, *owners) as shared:
        answer = await _ask_as(shared, PRODUCTPAGE, "spiffe://cluster.local/ns/bookinfo/sa/reviews")
        assert answer.startswith("INVALID_ARGUMENT this workload has no secret")
        assert shared.refused == 0


def _let_in(folder: Path) -> None:
    """Open a test's directory, and those above it, to other users as far as its socket goes."""
    for directory in (folder, *folder.parents):
        if directory.stat().st_uid == UID and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)


async def test_connections_of_a_workload_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that opens more and more is stopped before the others feel it."""
    monkeypatch.setattr("meshsigner.agent.shared_socket.MAX_CONNECTIONS", 2)
    async with _sharing(tmp_path, _owner(tmp_path)) as shared:
        opened = [await asyncio.open_unix_connection(shared.path) for _ in range(3)]
        await until(lambda: shared.refused == 1)
        assert [await reader.read(1) for reader, _ in opened[2:]] == [b""]
        opened[0][1].close()
        await until(lambda: shared.refused == 1)
        for _, writer in opened:
            writer.close()


async def test_workload_that_is_gone_closes_the_connection(tmp_path: Path) -> None:
    """Nothing behind the socket: the caller sees an end, not silence."""
    owner = _owner(tmp_path)
    shared = SharedSocket(tmp_path / "shared", [owner], AgentMetrics([]))
    await shared.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "shared")
    assert await reader.read() == b""
    writer.close()
    await shared.stop()


async def test_end_of_the_agent_ends_connections(tmp_path: Path) -> None:
    """Envoy sees at once that it must connect anew, and the socket is gone."""
    async with _sharing(tmp_path, _owner(tmp_path)) as shared:
        reader, writer = await asyncio.open_unix_connection(shared.path)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        assert await reader.read(9)
    while await reader.read(1024):
        pass
    writer.close()
    assert not shared.path.exists()


async def test_half_closed_connection_is_passed_on(tmp_path: Path) -> None:
    """An end in one direction reaches the other side as an end."""
    owner = _owner(tmp_path)
    owner.socket.parent.mkdir()
    echoed = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()
        echoed.set()

    inner = await asyncio.start_unix_server(echo, owner.socket)
    shared = SharedSocket(tmp_path / "shared", [owner], AgentMetrics([]))
    await shared.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "shared")
    writer.write(b"x" * 1_000_000)
    writer.write_eof()
    assert len(await reader.read()) == 1_000_000
    writer.close()
    await shared.stop()
    inner.close()
    assert echoed.is_set()


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (((1, None), (1, None)), "could be either's"),
        (((1, None), (1, 5)), "could be either's"),
        (((1, 5), (1, 5)), "could be either's"),
        (((UNMAPPED_ID, None),), "cannot map"),
        (((1, UNMAPPED_ID),), "cannot map"),
    ],
)
def test_ambiguous_owners_are_refused(
    tmp_path: Path, ids: tuple[tuple[int, int | None], ...], words: str
) -> None:
    """No process may be two workloads', and an id that stands for unknown ones is nobody's."""
    owners = [_owner(tmp_path, f"w{n}", uid=uid, gid=gid) for n, (uid, gid) in enumerate(ids)]
    with pytest.raises(ConfigurationError, match=words):
        check_owners(owners)


def test_distinct_owners_are_taken(tmp_path: Path) -> None:
    """Different users, or one user in different groups."""
    check_owners(
        [
            _owner(tmp_path, "a", uid=1),
            _owner(tmp_path, "b", uid=2),
            _owner(tmp_path, "c", uid=3, gid=1),
            _owner(tmp_path, "d", uid=3, gid=2),
        ]
    )


def test_kernel_tells_user_and_group_of_the_peer(tmp_path: Path) -> None:
    """What SO_PEERCRED says of this very process is what the operating system says of it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(tmp_path / "s"))
    peer, _ = listener.accept()
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    ids = [int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4, 8)]
    assert ids == [os.getpid(), UID, GID]
    for open_socket in (peer, client, listener):
        open_socket.close()
