"""The port for probes and Prometheus."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from meshsigner.admin.server import AdminServer, OneProcess
from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.readiness import Readiness


class _Admin:
    """A running server with a client."""

    def __init__(self) -> None:
        self.parts = [
            Health(name="issuer", ready=True, detail="root of cluster.local"),
            Health(name="inventory", ready=True, detail="/var/lib/meshsigner"),
        ]
        self.readiness = Readiness([lambda: self.parts])
        self.metrics = Metrics()
        self.shown = OneProcess(self.readiness, self.metrics)
        self.server = AdminServer(listen="127.0.0.1:0", shown=self.shown)
        self.client = aiohttp.ClientSession()

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with self.client.get(url, headers=headers) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def admin() -> AsyncIterator[_Admin]:
    """A running server."""
    running = _Admin()
    await running.server.start()
    yield running
    await running.client.close()
    await running.server.stop()


async def test_live(admin: _Admin) -> None:
    """A turning event loop is alive, ready or not."""
    admin.parts[0] = Health(name="issuer", ready=False, detail="expired")
    assert await admin.get("/healthz/live") == (200, "live\n")


async def test_ready_names_each_part(admin: _Admin) -> None:
    """Every part is on a line of its own with its detail."""
    status, text = await admin.get("/healthz/ready")
    assert status == 200
    assert text.splitlines()[0] == "ready      issuer: root of cluster.local"
    assert len(text.splitlines()) == 3


async def test_not_ready_says_why(admin: _Admin) -> None:
    """One part that is not ready makes the answer 503, and its words say what to do."""
    admin.parts[1] = Health(name="inventory", ready=False, detail="disk full: make room")
    status, text = await admin.get("/healthz/ready")
    assert status == 503
    assert "NOT READY  inventory: disk full: make room" in text


async def test_ready_as_json(admin: _Admin) -> None:
    """Whoever asks for JSON gets it, with the same status."""
    admin.readiness.drain()
    status, text = await admin.get("/healthz/ready", accept="application/json")
    assert status == 503
    assert '"name": "server", "ready": false' in text


async def test_metrics(admin: _Admin) -> None:
    """The figures of the moment are shown in Prometheus' format."""
    admin.metrics.shed("queue_total")
    status, text = await admin.get("/metrics")
    assert status == 200
    assert 'meshsigner_shed_total{what="queue_total"} 1.0' in text


@pytest.mark.parametrize("path", ["/", "/inventory", "/debug/pprof", "/healthz", "/metrics/x"])
async def test_nothing_else(admin: _Admin, path: str) -> None:
    """Every other path is 404: the inventory is no public page."""
    assert (await admin.get(path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/metrics", "/healthz/ready", "/healthz/live"])
async def test_get_only(admin: _Admin, method: str, path: str) -> None:
    """No page takes anything but GET."""
    url = f"http://127.0.0.1:{admin.server.port}{path}"
    async with admin.client.request(method, url) as answer:
        assert answer.status == 405


async def test_port_that_is_taken(admin: _Admin) -> None:
    """A second server on the same port fails and names it."""
    second = AdminServer(listen=f"127.0.0.1:{admin.server.port}", shown=admin.shown)
    with pytest.raises(ConfigurationError, match=str(admin.server.port)):
        await second.start()


async def test_stop_before_start() -> None:
    """A server that never started can be stopped."""
    await AdminServer(listen="[::1]:0", shown=OneProcess(Readiness([]), Metrics())).stop()
