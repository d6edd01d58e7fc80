"""The supervisor: it holds the port, the inventory and the admin page, and never a key.

Decides the order in which they are taken and given back, and how a new
configuration is taken. What the workers do is `crew`'s matter, when to start and
end `process`'s.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from meshsigner.admin.server import AdminServer
from meshsigner.app.caretaker import Caretaker
from meshsigner.app.problems import Problems
from meshsigner.app.stores import Tends, caretaker_of
from meshsigner.background import Background
from meshsigner.config import Config
from meshsigner.config.sections import InventorySqlite
from meshsigner.errors import ConfigurationError
from meshsigner.inventory.faults import Unusable, explain
from meshsigner.inventory.files import lock_of
from meshsigner.model import Health
from meshsigner.observe.families import render_families
from meshsigner.observe.logs import LogFormat, configure, get_logger
from meshsigner.observe.names import Event
from meshsigner.observe.supervisor_metrics import SupervisorMetrics
from meshsigner.workers.changes import changes_between, taken_from
from meshsigner.workers.child import Died
from meshsigner.workers.crew import Crew
from meshsigner.workers.port import ReservedPort
from meshsigner.workers.readiness import judge
from meshsigner.workers.settings import Settings

_CHECK_S = 1.0
_SLACK_S = 10.0  # beyond notice and grace, for workers to end


class Supervisor:
    """A server of several workers.

    Args:
        config: Its settings.

    Attributes:
        address: Where the workers serve.
        admin_address: Where probes ask.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        _configure_logs(config)
        self._generation = 1
        self._metrics = SupervisorMetrics()
        self._crew = Crew(self._metrics)
        files = _files(config)
        self._lock = lock_of(files.path) if files is not None else None
        self._lock_fault: ConfigurationError | None = None
        self._closing = AsyncExitStack()
        self._draining = False
        self.address = ""
        self.admin_address = ""

    async def start(self) -> None:
        """Take what is one server's alone, then start all workers.

        Raises:
            ConfigurationError: It cannot; nothing is left running.
        """
        async with AsyncExitStack() as closing:
            closing.callback(self._crew.kill)
            await self._take(closing)
            try:
                await self._crew.start(self._settings())
            except Died as error:
                raise ConfigurationError(f"{error}; its own words stand above") from error
            if self._lock_fault is not None:
                raise self._lock_fault
            for loop in (self._check, self._caretaker().run):
                closing.push_async_callback(Background(loop).stop)
            self._closing = closing.pop_all()
        await self._crew.refresh()
        self._tell_ready()

    async def reload(self, config: Config | None) -> None:
        """Take a new configuration: in place, by replacing workers, or not before a restart.

        Args:
            config: New settings; None changes nothing but files.
        """
        if config is None:
            self._crew.reload(self._settings())
            return
        changes = changes_between(self._config, config)
        self._generation += 1
        old, self._config = self._config, taken_from(self._config, config)
        _configure_logs(self._config)
        get_logger().info(
            Event.RELOADED, policy_generation=self._generation, need_restart=changes.restart
        )
        if not changes.replace:
            self._crew.reload(self._settings())
            return
        try:
            await self._crew.replace(self._settings())
        except (ConfigurationError, Died) as error:
            self._config = old
            get_logger().error(Event.RELOAD_REFUSED, problems=str(error).splitlines())

    async def stop(self) -> None:
        """Drain all workers, then give everything back."""
        self._draining = True
        limits = self._config.limits
        patience = limits.drain_notice + limits.drain
        get_logger().info(Event.DRAINING, grace_s=limits.drain.total_seconds())
        await self._crew.stop(patience.total_seconds() + _SLACK_S)
        await self._closing.aclose()
        get_logger().info(Event.STOPPED)

    # What the admin page shows.

    async def readiness(self) -> tuple[bool, Sequence[Health]]:
        """Return whether the server is ready, and the health of each worker's parts."""
        await self._crew.refresh()
        verdict = judge(
            self._crew.standings(), complete=self._crew.complete, draining=self._draining
        )
        return verdict.ready, verdict.parts

    async def figures(self) -> bytes:
        """Return the figures of the whole server."""
        await self._crew.refresh()
        return render_families(self._crew.families())

    # Its own life.

    def _settings(self) -> Settings:
        return Settings(
            config=self._config, generation=self._generation, address=self._port.address
        )

    async def _take(self, closing: AsyncExitStack) -> None:
        """Take port, inventory and admin port; tell all that cannot be had."""
        problems = Problems()
        for take in (self._take_inventory, self._take_port):
            problems.attempt(partial(take, closing))
        listen = self._config.admin.address
        admin = AdminServer(listen=str(listen), shown=self)
        try:
            await admin.start()
        except ConfigurationError as error:
            problems.add(*error.problems)
        closing.push_async_callback(admin.stop)
        problems.settle()
        self.admin_address = f"{listen.host}:{admin.port}"
        self.address = str(self._port.address)

    def _take_port(self, closing: AsyncExitStack) -> None:
        self._port = ReservedPort(self._config.listen.address)
        closing.callback(self._port.release)
        certificates = self._config.client_certificates
        for address in certificates.addresses if certificates else ():
            closing.callback(ReservedPort(address).release)

    def _take_inventory(self, closing: AsyncExitStack) -> None:
        """Take files for this server alone; a database is for all who share it."""
        files = _files(self._config)
        if files is None or self._lock is None:
            return
        try:
            self._lock.acquire()
        except Unusable as error:
            raise ConfigurationError(explain(error, files.path)) from error
        except OSError as error:
            # No directory, or none to write in: the workers tell it beside all else that is wrong.
            self._lock_fault = ConfigurationError(explain(error, files.path))
        closing.callback(self._lock.release)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_S)
            await self._crew.check()

    def _caretaker(self) -> Tends:
        files = _files(self._config)
        if files is None:
            return caretaker_of(self._config)
        return Caretaker(
            files.path,
            retention=files.retention,
            hold=self._crew.hold,
            release=self._crew.in_care.discard,
            lock=self._lock,
        )

    def _tell_ready(self) -> None:
        standings = self._crew.standings()
        parts = judge(standings, complete=True, draining=False).parts
        missing = [f"{part.name}: {part.detail}" for part in parts if not part.ready]
        where = {"listen": self.address, "admin": self.admin_address, "workers": len(standings)}
        if missing:
            get_logger().warning(Event.NOT_READY, **where, missing=missing)
        else:
            get_logger().info(Event.READY, **where)


def _files(config: Config) -> InventorySqlite | None:
    section = config.inventory
    return section if isinstance(section, InventorySqlite) else None


def _configure_logs(config: Config) -> None:
    level = logging.getLevelNamesMapping()[config.logging.level.upper()]
    configure(LogFormat(config.logging.format), level)
