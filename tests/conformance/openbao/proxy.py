"""A TCP proxy of our own before a server: the network's faults, on command.

It passes bytes on and knows nothing of them. `cut` breaks every connection and
refuses new ones, `hang` keeps connections open and passes nothing on,
`swallow_answers` lets requests through and breaks the connection instead of
answering: what a time-out looks like to a caller who may have been served.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_CHUNK_BYTES = 65_536


@dataclass(eq=False)
class Proxy:
    """A proxy that runs.

    Attributes:
        target: host:port of the server behind it.
        address: host:port of its own.
        swallow_answers: Answers are thrown away and the connection is broken.
    """

    target: str
    address: str = ""
    swallow_answers: bool = False
    _cut: bool = False
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Break every connection, and each new one."""
        self._cut = True
        self.break_connections()

    def hang(self) -> None:
        """Pass nothing on from now on."""
        self._flows.clear()

    def heal(self) -> None:
        """Let everything pass again."""
        self._cut = self.swallow_answers = False
        self._flows.set()

    def break_connections(self) -> None:
        """Break those that are open."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        if self._cut:
            writer.transport.abort()
            return
        host, _, port = self.target.rpartition(":")
        try:
            there, away = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, away}
        try:
            await asyncio.gather(
                self._pass(reader, away, answers=False), self._pass(there, writer, answers=True)
            )
        finally:
            self._writers -= {writer, away}
            for one in (writer, away):
                one.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK_BYTES):
                await self._flows.wait()
                if answers and self.swallow_answers and chunk[0] == _APPLICATION_DATA:
                    break
                sink.write(chunk)
                await sink.drain()
        sink.transport.abort()


_APPLICATION_DATA = 0x17  # TLS record type, RFC 8446 5.1; a handshake still passes


@contextlib.asynccontextmanager
async def proxy_before(target: str) -> AsyncIterator[Proxy]:
    """Have a proxy before a server for the length of a block."""
    proxy = Proxy(target=target)
    proxy.heal()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.break_connections()
        await server.wait_closed()
