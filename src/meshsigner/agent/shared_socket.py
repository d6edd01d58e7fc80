"""One socket for several workloads: proves whose process calls before it hears a byte.

grpcio cannot say who is at the other end of a Unix socket, so a small listener
stands in front: it accepts, asks the kernel for the user and group of the
process that connected (SO_PEERCRED), and passes bytes on to the private socket
of that one workload, or closes. It reads no gRPC and sees no difference
between workloads that the kernel does not see. A process id proves nothing:
it may be another's by the time that anybody looks at it (docs/adr/0020).

Source: unix(7) SO_PEERCRED; spire pkg/agent/endpoints/endpoints.go.
"""

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from meshsigner.errors import ConfigurationError
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.unix_socket import OPEN_MODE, Taken, listening_socket, take

UNMAPPED_ID = 65_534  # what the kernel shows for an id that this user namespace does not know
MAX_CONNECTIONS = 256  # of one workload; an Envoy needs one
_CHUNK_BYTES = 65_536
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose processes may have a workload's secrets.

    Attributes:
        workload: Its name.
        uid: Numeric user id.
        gid: Numeric group id; None for any.
        socket: The workload's private socket.
    """

    workload: str
    uid: int
    gid: int | None
    socket: Path

    def owns(self, uid: int, gid: int) -> bool:
        """Tell whether a process of this user and group is the workload's."""
        return self.uid == uid and self.gid in {None, gid}


def check_owners(owners: Sequence[Owner]) -> None:
    """Refuse declarations under which a process could be more than one workload's.

    Raises:
        ConfigurationError: They overlap, or name an id that stands for unknown ones.
    """
    problems = [
        f"workload {owner.workload}: id {UNMAPPED_ID} is what the kernel shows for every id that "
        "it cannot map; choose another"
        for owner in owners
        if UNMAPPED_ID in {owner.uid, owner.gid}
    ]
    problems += [
        f"workloads {one.workload} and {other.workload}: a process of user {one.uid} could be "
        "either's; give them different users or groups"
        for one, other in combinations(owners, 2)
        if one.uid == other.uid and (None in {one.gid, other.gid} or one.gid == other.gid)
    ]
    if problems:
        raise ConfigurationError(*problems)


class SharedSocket:
    """Accepts for all workloads, and passes each connection on to its workload.

    Args:
        path: Where.
        owners: Which process belongs to which workload.
        metrics: Counts who was refused.
    """

    def __init__(self, path: Path, owners: Sequence[Owner], metrics: AgentMetrics) -> None:
        check_owners(owners)
        self._path = path
        self._owners = tuple(owners)
        self._metrics = metrics
        self._connections: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._taken: Taken | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: The path cannot be had.
        """
        listener, self._taken = take(self._path, OPEN_MODE, listening_socket)
        self._server = await asyncio.start_unix_server(self._accepted, sock=listener)

    async def stop(self) -> None:
        """Stop listening, and close what is open."""
        if self._server is not None:
            self._server.close()
        if self._taken is not None:
            self._taken.release()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            owner = self._owner_of(writer)
            if owner is not None:
                await self._pass_on(owner, reader, writer)
        finally:
            writer.close()

    def _owner_of(self, writer: StreamWriter) -> Owner | None:
        """Find whose process has connected; say so when it is nobody's."""
        peer = writer.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, gid = _CREDENTIALS.unpack(raw)
        owner = next((owner for owner in self._owners if owner.owns(uid, gid)), None)
        if owner is None:
            self._refuse("belongs to no workload", uid, gid)
        elif self._connections[owner.workload] >= MAX_CONNECTIONS:
            self._refuse(f"{owner.workload} has {MAX_CONNECTIONS} connections", uid, gid)
            return None
        return owner

    def _refuse(self, cause: str, uid: int, gid: int) -> None:
        self._metrics.peer_refused()
        get_logger().warning(Event.PEER_REFUSED, uid=uid, gid=gid, cause=cause)

    async def _pass_on(self, owner: Owner, reader: StreamReader, writer: StreamWriter) -> None:
        self._connections[owner.workload] += 1
        try:
            with suppress(OSError):  # the workload's own socket is closing: so does this one
                inner_reader, inner_writer = await asyncio.open_unix_connection(owner.socket)
                with closing(inner_writer):
                    await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            self._connections[owner.workload] -= 1


async def _copy(source: StreamReader, target: StreamWriter) -> None:
    """Carry bytes one way, no faster than they are taken; the end of them is carried too."""
    with suppress(ConnectionError):  # either side is gone, which ends the other way as well
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()
    if not target.is_closing():
        target.write_eof()
