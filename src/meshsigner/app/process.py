"""A server that is one process: its event loop."""

from collections.abc import Awaitable, Callable

import uvloop

from meshsigner.app.life import live
from meshsigner.app.server import Server
from meshsigner.config import Config
from meshsigner.rpc.event_loop import EventLoop


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
    uvloop.run(live(Server(config), reload, ready), loop_factory=EventLoop)
