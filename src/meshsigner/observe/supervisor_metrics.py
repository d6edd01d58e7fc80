"""The supervisor's own figures: its workers, and what its own process uses."""

from prometheus_client import (
    Counter,
    Gauge,
)

from meshsigner.observe import names
from meshsigner.observe.families import Family, read_families
from meshsigner.observe.registry import process_registry


class SupervisorMetrics:
    """All figures of a supervisor's own."""

    def __init__(self) -> None:
        self.registry = process_registry()
        self._wanted = Gauge(
            names.WORKERS_WANTED, "Workers that should serve.", registry=self.registry
        )
        self._serving = Gauge(
            names.WORKERS_SERVING, "Workers that take connections.", registry=self.registry
        )
        ended = Counter(
            names.WORKERS_ENDED,
            "Workers that ended, by how: crashed (by itself), not_started, hung (it did not answer "
            "and was killed), replaced (for new settings).",
            ["how"],
            registry=self.registry,
        )
        self._ended = {how: ended.labels(how) for how in names.WorkerEnd}

    def workers(self, *, wanted: int, serving: int) -> None:
        """Show how many workers there should be, and how many serve."""
        self._wanted.set(wanted)
        self._serving.set(serving)

    def worker_ended(self, how: names.WorkerEnd) -> None:
        """Count a worker that ended."""
        self._ended[how].inc()

    def families(self) -> tuple[Family, ...]:
        """Take all figures down as they are now."""
        return read_families(self.registry)
