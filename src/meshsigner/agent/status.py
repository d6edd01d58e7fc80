"""What the agent has and who wants it, for `meshsigner agent status`.

One JSON document a connection on a private Unix socket, which only the agent's
own user can reach: identities are in it, secrets never.
"""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from meshsigner.agent.workload import Workload
from meshsigner.unix_socket import PRIVATE_MODE, Taken, listening_socket, take

Document = Mapping[str, object]


def describe(workloads: Sequence[Workload]) -> Document:
    """Describe every workload and its secrets."""
    return {"workloads": [_workload(workload) for workload in workloads]}


def _workload(workload: Workload) -> Document:
    svid = workload.store.svid
    return {
        "name": workload.settings.name,
        "identity": str(workload.store.identity),
        "socket": str(workload.socket),
        "serial": None if svid is None else svid.serial,
        "not_before": None if svid is None else _time(svid.not_before),
        "not_after": None if svid is None else _time(svid.not_after),
        "next_renewal": _time(workload.life.due_at),
        "last_failure": workload.life.last_failure,
        "secrets": _secrets(workload),
    }


def _secrets(workload: Workload) -> list[Document]:
    subscribers = workload.service.subscribers()
    versions = workload.store.versions
    return [
        {"name": name, "version": versions.get(name), "subscribers": subscribers[name]}
        for name in workload.store.names
    ]


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


class StatusSocket:
    """Answers whoever connects.

    Args:
        path: Where.
        document: Makes the answer.
    """

    def __init__(self, path: Path, document: Callable[[], Document]) -> None:
        self._path = path
        self._document = document
        self._server: asyncio.Server | None = None
        self._taken: Taken | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: The path cannot be had.
        """
        listener, self._taken = take(self._path, PRIVATE_MODE, listening_socket)
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        if self._taken is not None:
            self._taken.release()

    async def _answer(self, _reader: StreamReader, writer: StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):  # who asks may leave before the answer
            writer.write(json.dumps(self._document()).encode())
            await writer.drain()
