"""Figures of CAs elsewhere: what they shortened, and the intermediates they gave us."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from meshsigner.observe import names


class RemoteCaFamilies:
    """The families of one process; labels are names of backends from the configuration.

    Args:
        registry: What `/metrics` shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._shortened = Counter(
            names.BACKEND_SHORTENED,
            "Certificates that a remote CA ended before what was asked, and that were accepted.",
            ["backend"],
            registry=registry,
        )
        self._expiry = Gauge(
            names.INTERMEDIATE_EXPIRY,
            "When the intermediate in use expires, Unix seconds; no leaf outlives it.",
            ["backend"],
            registry=registry,
        )
        self._renewals = Counter(
            names.INTERMEDIATE_RENEWALS,
            "Attempts to get a new intermediate, by result: taken or failed.",
            ["backend", "result"],
            registry=registry,
        )

    def shortened(self, backend: str) -> None:
        """Count a certificate that ends before what was asked."""
        self._shortened.labels(backend).inc()

    def intermediate(self, backend: str, *, not_after: datetime) -> None:
        """Show when the intermediate in use expires."""
        self._expiry.labels(backend).set(not_after.timestamp())

    def renewal(self, backend: str, *, taken: bool) -> None:
        """Count an attempt to get an intermediate."""
        self._renewals.labels(backend, "taken" if taken else "failed").inc()
