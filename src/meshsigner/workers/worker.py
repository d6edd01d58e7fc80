"""What runs in a worker: a whole server, told by the supervisor when to do what.

`python -m meshsigner.workers.worker CONTROL LIFE PARENT` is started by
`child` alone: two inherited descriptors and a process id. Signals that a
terminal sends to everybody are the supervisor's to answer.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from meshsigner.app.place import Place
from meshsigner.app.server import Server
from meshsigner.background import Background
from meshsigner.config import Config, build_config
from meshsigner.config.fields import Address
from meshsigner.errors import ConfigurationError
from meshsigner.observe.families import read_families
from meshsigner.rpc.event_loop import EventLoop
from meshsigner.workers.channel import Channel
from meshsigner.workers.guard import end_with_parent, end_with_pipe
from meshsigner.workers.messages import Kind, Message, Report


class _Dismissed(Exception):
    """The supervisor wants no worker here any more, or has gone."""


class Worker:
    """A server that does what it is told.

    Args:
        channel: Where it is told.
        start: The first message.

    Raises:
        ConfigurationError: The settings mean nothing here.
    """

    def __init__(self, channel: Channel, start: Message) -> None:
        content = start.content
        self._channel = channel
        place = Place(
            number=content["number"],
            policy_generation=content["generation"],
            roots_pem=content["roots_pem"].encode(),
        )
        self._inventory = content["inventory"]
        self._server = Server(self._own(content), place)
        self._end = asyncio.Event()
        self._successors: tuple[int, ...] = ()

    async def live(self) -> None:
        """Start, serve, and end when told to or at SIGTERM.

        Raises:
            ConfigurationError: It cannot start.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end.set)
        await self._server.start(self._await_turn)
        self._channel.send(Kind.SERVING)
        obedience = Background(self._obey)
        await self._end.wait()
        await self._server.stop(self._successors, lambda: self._channel.send(Kind.LEFT))
        await obedience.stop()
        self._report()  # what was counted last outlives this process

    def _own(self, content: Mapping[str, Any]) -> Config:
        """Return the settings as they are here: with the real port and an inventory of its own.

        Both are set last: the environment, which is the supervisor's, would win over them.
        """
        config = build_config(content["config"], name="the supervisor's configuration")
        address = Address.parse(content["address"])
        own: dict[str, object] = {"listen": config.listen.model_copy(update={"address": address})}
        if self._inventory is not None:
            path, max_bytes = self._inventory
            inventory = {"path": Path(path), "max_bytes": max_bytes}
            own["inventory"] = config.inventory.model_copy(update=inventory)
        return config.model_copy(update=own)

    async def _await_turn(self) -> None:
        """Say that all is ready but the port, and wait until this worker may join it."""
        self._channel.send(Kind.PREPARED, roots_pem=self._server.roots_pem().decode())
        while (message := await self._channel.receive()) is not None:
            match message.kind:
                case Kind.LISTEN:
                    return
                case Kind.ASK:
                    self._report()
                case Kind.END:
                    raise _Dismissed
        raise _Dismissed

    async def _obey(self) -> None:
        while (message := await self._channel.receive()) is not None:
            match message.kind:
                case Kind.ASK:
                    self._report()
                case Kind.RELOAD:
                    config = self._own(message.content)
                    await self._server.reload(config, message.content["generation"])
                case Kind.STEER_FREELY:
                    self._server.steer_freely()
                case Kind.END:
                    self._successors = tuple(message.content["successors"])
                    self._end.set()

    def _report(self) -> None:
        server = self._server
        report = Report(
            parts=tuple(server.health()),
            families=read_families(server.metrics.registry),
            roots_pem=server.roots_pem().decode(),
        )
        self._channel.send(Kind.REPORT, **report.to_content())


async def _run(control: int) -> None:
    channel = await Channel.over(socket.socket(fileno=control))
    start = await channel.receive()
    if start is None:
        return
    try:
        with suppress(_Dismissed):
            await Worker(channel, start).live()
    except ConfigurationError as error:
        channel.send(Kind.FAILED, problems=list(error.problems))
    await channel.flush()
    channel.close()


def main() -> None:
    """Live as a worker."""
    control, life, parent = (int(argument) for argument in sys.argv[1:])
    end_with_parent(parent)
    end_with_pipe(life)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(control, False)  # noqa: FBT003 - the standard library's own form
    uvloop.run(_run(control), loop_factory=EventLoop)


if __name__ == "__main__":
    main()
