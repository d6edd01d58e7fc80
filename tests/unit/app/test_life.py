"""The order of a server's life, under signals."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from meshsigner.app.life import live
from meshsigner.config import Config, build_config
from meshsigner.errors import ConfigurationError
from tests.wire.harness import until

CONFIG = build_config(
    {
        "trust_domain": "cluster.local",
        "clusters": [{"id": "a"}],
        "issuer": {"type": "directory", "path": "ca"},
        "listen": {"tls": {"type": "issuer", "dns_names": ["a"]}},
    },
    name="test",
)


class _Server:
    """A server that writes down what is done to it."""

    def __init__(self, *problems: str) -> None:
        self.address = self.admin_address = ""
        self.problems = problems
        self.done: list[object] = []

    async def start(self) -> None:
        if self.problems:
            raise ConfigurationError(*self.problems)
        self.done.append("start")

    async def reload(self, config: Config | None) -> None:
        self.done.append(config)

    async def stop(self) -> None:
        self.done.append("stop")


async def _lived(server: _Server, reload: Callable[[], Config] | None, hangups: int) -> None:
    """Live, with some SIGHUPs and a SIGTERM."""

    async def ready(_: _Server) -> None:
        server.done.append("ready")

    life = asyncio.create_task(live(server, reload, ready))
    await until(lambda: "ready" in server.done)
    for number in range(hangups):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda seen=number: len(server.done) > 2 + seen)  # type: ignore[misc]
    os.kill(os.getpid(), signal.SIGTERM)
    await life


async def test_whole_life() -> None:
    """Start, word of it, one reload for each SIGHUP, and the end at SIGTERM."""
    server = _Server()
    await _lived(server, lambda: CONFIG, hangups=2)
    assert server.done == ["start", "ready", CONFIG, CONFIG, "stop"]


async def test_without_settings_files_alone_are_taken_anew() -> None:
    """A server whose settings are in no file looks at its other files."""
    server = _Server()
    await _lived(server, None, hangups=1)
    assert server.done == ["start", "ready", None, "stop"]


async def test_wrong_settings_change_nothing() -> None:
    """A configuration that is refused never reaches the server, the next good one does."""
    server, tries = _Server(), list[int]()

    def reload() -> Config:
        tries.append(1)
        if len(tries) == 1:
            raise ConfigurationError("bad")
        return CONFIG

    life = asyncio.create_task(live(server, reload, None))
    await until(lambda: server.done == ["start"])
    for number in (1, 2):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda seen=number: len(tries) == seen)  # type: ignore[misc]
    await until(lambda: len(server.done) == 2)
    os.kill(os.getpid(), signal.SIGINT)
    await life
    assert server.done == ["start", CONFIG, "stop"]


async def test_start_that_fails() -> None:
    """What keeps a server from starting is told, and nothing else happens."""
    server = _Server("no CA")
    with pytest.raises(ConfigurationError, match="no CA"):
        await live(server, None, None)
    assert server.done == []
