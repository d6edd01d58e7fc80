"""The registry that a process's own figures begin with."""

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from meshsigner import __version__
from meshsigner.observe import names


def process_registry() -> CollectorRegistry:
    """Make a registry that shows what this process uses."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def show_build(registry: CollectorRegistry) -> None:
    """Show which build runs."""
    Info(names.BUILD, "Which build runs.", registry=registry).info({"version": __version__})
