"""The cluster's controllers in a process of their own, without the port for certificates.

For who wants them apart from the workers, which take part in the same election.
Start: the CA, the admin port, the election. The CA's key is here as in a worker:
it signs for istiod.
"""

import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from meshsigner.admin.server import AdminServer, OneProcess
from meshsigner.app.controllers import controllers_of, issuer_of
from meshsigner.background import Background
from meshsigner.cluster.leader import Controllers
from meshsigner.config import Config
from meshsigner.model import Health, TrustBundle
from meshsigner.observe.controller_metrics import ControllerFigures
from meshsigner.observe.logs import LogFormat, configure, get_logger
from meshsigner.observe.names import Event
from meshsigner.observe.readiness import Readiness
from meshsigner.trust import IssuerDirectory
from meshsigner.trust.succession import Roots


def _now() -> datetime:
    return datetime.now(UTC)


class ControllersProcess:
    """Everything in such a process; `app.life` decides when it starts and ends.

    Args:
        config: The settings.

    Attributes:
        address: Empty: there is no such port.
        admin_address: Where probes ask.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        level = logging.getLevelNamesMapping()[config.logging.level.upper()]
        configure(LogFormat(config.logging.format), level)
        self._closing = AsyncExitStack()
        self.address = ""
        self.admin_address = ""

    async def start(self) -> None:
        """Start everything.

        Raises:
            ConfigurationError: It cannot; nothing is left running.
        """
        async with AsyncExitStack() as closing:
            await self._start(closing)
            self._closing = closing.pop_all()
        get_logger().info(Event.READY, admin=self.admin_address)

    async def reload(self, config: Config | None) -> None:
        """Look at the CA at once; settings need a restart."""
        del config
        await self._issuer.look()

    async def stop(self) -> None:
        """Give the lease back, then end everything."""
        await self._closing.aclose()
        get_logger().info(Event.STOPPED)

    async def _start(self, closing: AsyncExitStack) -> None:
        figures = ControllerFigures()
        self._issuer: IssuerDirectory = issuer_of(
            self._config,
            clock=_now,
            further_faults=self._early_changes,
        )
        self._controllers: Controllers = controllers_of(
            self._config,
            roots=self._roots,
            issuer=self._issuer,
            clock=_now,
            metrics=figures.controllers,
        )
        closing.push_async_callback(self._controllers.aclose)
        await self._start_admin(figures, closing)
        for loop in (self._issuer.watch, self._controllers.run):
            closing.push_async_callback(Background(loop).stop)

    async def _start_admin(self, figures: ControllerFigures, closing: AsyncExitStack) -> None:
        listen = self._config.admin.address
        readiness = Readiness([self._health])
        admin = AdminServer(listen=str(listen), shown=OneProcess(readiness, figures))
        closing.push_async_callback(admin.stop)
        await admin.start()
        self.admin_address = f"{listen.host}:{admin.port}"

    def _early_changes(self, before: Roots, after: Roots) -> list[str]:
        return self._controllers.change_faults(before, after)

    def _health(self) -> list[Health]:
        return [self._issuer.health(_now()), self._controllers.health()]

    def _roots(self) -> TrustBundle:
        return self._issuer.current.issuer.trust_bundle
