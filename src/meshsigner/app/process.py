"""One process: the event loop, signals, and the order of its life.

SIGTERM and SIGINT drain; a second one ends at once. SIGHUP reloads; settings
that are wrong change nothing and are logged.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import uvloop

from meshsigner.app.background import Background
from meshsigner.app.server import Server
from meshsigner.config import Config
from meshsigner.errors import ConfigurationError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

_ENDING = (signal.SIGTERM, signal.SIGINT)


def run(
    config: Config,
    *,
    reload: Callable[[], Config] | None = None,
    ready: Callable[[Server], Awaitable[None]] | None = None,
) -> None:
    """Serve until a signal says otherwise.

    Args:
        config: The settings.
        reload: Reads them anew at SIGHUP; None takes files alone anew.
        ready: Called once the server answers; it serves on meanwhile.

    Raises:
        ConfigurationError: It cannot start; holds every problem.
    """
    uvloop.run(_live(Server(config), reload, ready))


async def _live(
    server: Server,
    reload: Callable[[], Config] | None,
    ready: Callable[[Server], Awaitable[None]] | None,
) -> None:
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
    hangup: asyncio.Event, server: Server, reload: Callable[[], Config] | None
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
