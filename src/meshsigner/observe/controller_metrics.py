"""The figures of the cluster's controllers, beside the server's own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from meshsigner.observe import names
from meshsigner.observe.registry import process_registry, show_build

__all__ = ["CollectorRegistry", "ControllerFigures", "ControllerMetrics"]


class ControllerFigures:
    """All figures of a process that runs the controllers and nothing else."""

    def __init__(self) -> None:
        self.registry = process_registry()
        show_build(self.registry)
        self.controllers = ControllerMetrics(self.registry)

    def render(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)


class ControllerMetrics:
    """All figures of the controllers of one process.

    Args:
        registry: The process's.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._leading = Gauge(
            names.CONTROLLERS_LEADING,
            "1 while this process leads and writes the cluster's objects.",
            registry=registry,
        )
        self._writes = Counter(
            names.CONTROLLER_WRITES,
            "Writes of the cluster's objects, by kind and by how they ended: written or refused.",
            ["kind", "result"],
            registry=registry,
        )
        self._behind = Gauge(
            names.CONTROLLER_BEHIND,
            "Namespaces that do not have the roots of the moment; 0 in who does not lead.",
            registry=registry,
        )

    def leads(self, *, now: bool) -> None:
        """Show whether this process leads."""
        self._leading.set(now)
        if not now:
            self._behind.set(0)

    def wrote(self, kind: str, result: str) -> None:
        """Count a write.

        Args:
            kind: Of the object, as the API server names it.
            result: `written` or `refused`.
        """
        self._writes.labels(kind, result).inc()

    def behind(self, namespaces: int) -> None:
        """Show how many namespaces lack the roots of the moment."""
        self._behind.set(namespaces)
