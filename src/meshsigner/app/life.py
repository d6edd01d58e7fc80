"""The order of a server's life, be it one process or several: start, signals, end.

SIGTERM and SIGINT drain; a second one ends at once. SIGHUP reloads; settings
that are wrong change nothing and are logged.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from meshsigner.background import Background
from meshsigner.config import Config
from meshsigner.errors import ConfigurationError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Lives(Protocol):
    """What has such a life."""

    address: str
    admin_address: str

    async def start(self) -> None:
        """Start everything, or raise ConfigurationError and leave nothing running."""
        ...

    async def reload(self, config: Config | None) -> None:
        """Take new settings, or with None all files anew."""
        ...

    async def stop(self) -> None:
        """Drain, then end everything."""
        ...


LivesT = TypeVar("LivesT", bound=Lives)


async def live(
    server: LivesT,
    reload: Callable[[], Config] | None,
    ready: Callable[[LivesT], Awaitable[None]] | None,
) -> None:
    """Serve until a signal says otherwise.

    Args:
        server: Not started yet.
        reload: Reads the settings anew at SIGHUP; None takes files alone anew.
        ready: Called once the server answers; it serves on meanwhile.

    Raises:
        ConfigurationError: It cannot start; holds every problem.
    """
    end = asyncio.Event()
    hangup = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, _end, end)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    await server.start()
    reloads = Background(lambda: _reload_at(hangup, server, reload))
    try:
        if ready is not None:
            await ready(server)
        await end.wait()
    finally:
        await reloads.stop()
        await server.stop()


def _end(end: asyncio.Event) -> None:
    """Ask for the end; the next signal ends at once, so that nobody has to wait."""
    end.set()
    for number in _ENDING:
        asyncio.get_running_loop().remove_signal_handler(number)


async def _reload_at(
    hangup: asyncio.Event, server: Lives, reload: Callable[[], Config] | None
) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            config = None if reload is None else await asyncio.to_thread(reload)
        except ConfigurationError as error:
            get_logger().error(Event.RELOAD_REFUSED, problems=error.problems)
            continue
        await server.reload(config)
