"""A line of JSON for each message, over a pair of sockets between supervisor and worker."""

import asyncio
import json
import socket
from typing import Any

from meshsigner.workers.messages import Kind, Message

_LONGEST_BYTES = 16 * 1024**2  # far above the largest configuration or report


class Channel:
    """One end of the connection.

    Args:
        reader: Where messages come from.
        writer: Where they go.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, one: socket.socket) -> "Channel":
        """Make an end of a connected socket, which belongs to it from now on."""
        return cls(*await asyncio.open_connection(sock=one, limit=_LONGEST_BYTES))

    def send(self, kind: Kind, **content: Any) -> None:
        """Send a message; to an end that has gone it is lost, and `receive` tells."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps([kind, content]).encode() + b"\n")

    async def flush(self) -> None:
        """Wait until what was sent has left."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def receive(self) -> Message | None:
        """Return the next message, None when the other end has gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        if not line.endswith(b"\n"):
            return None
        kind, content = json.loads(line)
        return Message(kind=Kind(kind), content=content)

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
