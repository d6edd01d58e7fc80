"""Live, ready, metrics: three pages to GET, and nothing else on that port.

Shows what a process, or a supervisor's workers together, say; decides nothing.
The inventory is no page here: whoever reaches this port is not authenticated.
"""

from collections.abc import Sequence
from typing import Protocol

from aiohttp import web

from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.readiness import Readiness

_PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_MAX_REQUEST_BYTES = 0  # nobody has anything to send here


class Shown(Protocol):
    """Whose pages these are."""

    async def readiness(self) -> tuple[bool, Sequence[Health]]:
        """Return whether the server is ready, and the health of its parts."""
        ...

    async def figures(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        ...


class Figures(Protocol):
    """The figures of a process, the server's or the agent's."""

    def render(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        ...


class OneProcess:
    """A server or an agent that is one process.

    Args:
        readiness: Knows what is ready.
        metrics: Knows the figures.
    """

    def __init__(self, readiness: Readiness, metrics: Figures) -> None:
        self._readiness = readiness
        self._metrics = metrics

    async def readiness(self) -> tuple[bool, Sequence[Health]]:
        """Return whether every part is ready, and the health of each."""
        report = self._readiness.report()
        return all(health.ready for health in report), report

    async def figures(self) -> bytes:
        """Return the figures of this process."""
        return self._metrics.render()


class AdminServer:
    """Answers probes and Prometheus.

    Args:
        listen: `address:port`; port 0 takes a free one.
        shown: Asked at each request.
    """

    def __init__(self, *, listen: str, shown: Shown) -> None:
        self._host, _, port = listen.rpartition(":")
        self._host = self._host.strip("[]")
        self.port = int(port)
        self._shown = shown
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen and serve, in this event loop.

        Raises:
            ConfigurationError: The address cannot be had.
        """
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_get("/healthz/live", self._live, allow_head=False)
        app.router.add_get("/healthz/ready", self._ready, allow_head=False)
        app.router.add_get("/metrics", self._figures, allow_head=False)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            address = f"{self._host}:{self.port}"
            msg = f"cannot listen on {address} for probes and metrics: {error.strerror}"
            raise ConfigurationError(msg) from error
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, _request: web.Request) -> web.Response:
        """Say that the event loop turns: that this answers at all is the proof."""
        return web.Response(text="live\n")

    async def _ready(self, request: web.Request) -> web.Response:
        """Say what is ready and what is not, in words, or as JSON to whoever prefers it."""
        ready, report = await self._shown.readiness()
        status = 200 if ready else 503
        if "application/json" in request.headers.get("accept", ""):
            return web.json_response(_as_json(report, ready=ready), status=status)
        return web.Response(text=_as_text(report), status=status)

    async def _figures(self, _request: web.Request) -> web.Response:
        """Show the figures."""
        headers = {"content-type": _PROMETHEUS_TEXT}
        return web.Response(body=await self._shown.figures(), headers=headers)


def _as_json(report: Sequence[Health], *, ready: bool) -> dict[str, object]:
    return {
        "ready": ready,
        "parts": [
            {"name": health.name, "ready": health.ready, "detail": health.detail}
            for health in report
        ],
    }


def _as_text(report: Sequence[Health]) -> str:
    return "".join(
        f"{'ready    ' if health.ready else 'NOT READY'}  {health.name}: {health.detail}\n"
        for health in report
    )
