"""The supervisor's process: its event loop and its log."""

from collections.abc import Awaitable, Callable

import uvloop

from meshsigner.app.life import live
from meshsigner.config import Config
from meshsigner.workers.supervisor import Supervisor


def supervise(
    config: Config,
    *,
    reload: Callable[[], Config] | None = None,
    ready: Callable[[Supervisor], Awaitable[None]] | None = None,
) -> None:
    """Serve with as many workers as the configuration says, until a signal says otherwise.

    Args:
        config: The settings.
        reload: Reads them anew at SIGHUP; None takes files alone anew.
        ready: Called once the server answers; it serves on meanwhile.

    Raises:
        ConfigurationError: It cannot start; holds every problem.
    """
    uvloop.run(live(Supervisor(config), reload, ready))
