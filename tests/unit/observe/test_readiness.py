"""Readiness asks every part each time."""

from meshsigner.model import Health
from meshsigner.observe.readiness import Readiness


def _health(name: str, *, ready: bool = True) -> Health:
    return Health(name=name, ready=ready, detail="why")


def test_all_parts_count() -> None:
    """One part that is not ready is enough, and each is named."""
    parts = [_health("a"), _health("b")]
    readiness = Readiness([lambda: parts[:1], lambda: parts[1:]])
    assert readiness.ready
    assert [health.name for health in readiness.report()] == ["a", "b", "server"]
    parts[1] = _health("b", ready=False)
    assert not readiness.ready


def test_a_drain_is_final() -> None:
    """Once it drains, a process is never ready again, and says why."""
    readiness = Readiness([])
    before = readiness.ready
    readiness.drain()
    assert (before, readiness.ready) == (True, False)
    (server,) = readiness.report()
    assert "draining" in server.detail
