"""Our figures, for Prometheus.

One `Metrics` a process, with a registry of its own, so that a test or a second
server in the same process counts for itself. Children are resolved once: a
look-up by labels costs more than the count. Labels come from closed sets, or
from the configuration (backends); never an identity. Istio's own metric names
are in `istio_metrics`. When to count is decided by the callers.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from meshsigner.errors import MeshsignerError
from meshsigner.model import Issuer
from meshsigner.observe import names
from meshsigner.observe.backend_metrics import BackendFamilies
from meshsigner.observe.istio_metrics import IstioMetrics
from meshsigner.observe.registry import process_registry, show_build
from meshsigner.observe.remote_ca_metrics import RemoteCaFamilies

# A lone request takes under a millisecond, the longest ten seconds.
_CALL_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Slices of a turn are about 20 ms, a commit is one fsync.
_TURN_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1)
_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def reasons(root: type[MeshsignerError] = MeshsignerError) -> Iterable[str]:
    """List the reasons of all documented errors, the closed set of that label.

    Args:
        root: Where in the tree to begin.
    """
    yield root.reason
    for error in root.__subclasses__():
        yield from reasons(error)


class Metrics:
    """All figures of one process.

    Attributes:
        registry: What `/metrics` shows.
        backends: The families of the signing backends.
        remote_ca: The families of CAs elsewhere.
    """

    def __init__(self) -> None:
        self.registry = process_registry()
        self._istio = IstioMetrics()
        self.registry.register(self._istio)
        show_build(self.registry)
        self._make_call_metrics()
        self._make_pipeline_metrics()
        self._make_edge_metrics()
        self.backends = BackendFamilies(self.registry)
        self.remote_ca = RemoteCaFamilies(self.registry)

    def _make_call_metrics(self) -> None:
        calls = Counter(
            names.CALLS,
            "CreateCertificate calls that ended, by the reason of docs/errors.md or ok, "
            "cancelled (the caller gave up), internal (a bug).",
            ["reason"],
            registry=self.registry,
        )
        known = dict.fromkeys([*names.Outcome, *reasons()])
        self._calls = {str(reason): calls.labels(str(reason)) for reason in known}
        self._issued = Counter(
            names.CERTIFICATES,
            "Certificates that were answered, by how the caller was proven and who signed.",
            ["auth_method", "backend"],
            registry=self.registry,
        )
        self._issued_children: dict[tuple[str, str], Counter] = {}
        self._seconds = Histogram(
            names.CALL_SECONDS,
            "From a call's arrival to its certificate; refused calls are not in it.",
            registry=self.registry,
            buckets=_CALL_BUCKETS_S,
        )
        self._in_flight = Gauge(
            names.CALLS_IN_FLIGHT,
            "CreateCertificate calls that wait for their answer.",
            registry=self.registry,
        )

    def _make_pipeline_metrics(self) -> None:
        self._turn_members = self._sizes(names.TURN_MEMBERS, "Requests in one turn.")
        self._turn_seconds = self._times(names.TURN_SECONDS, "CPU-bound time of one turn.")
        self._queued = self._gauge(names.ORDERS_QUEUED, "Orders that wait for a signer.")
        self._parked = self._gauge(
            names.REQUESTS_PARKED,
            "Requests that wait for a key set or a token review.",
        )
        self._commit_records = self._sizes(
            names.COMMIT_RECORDS,
            "Rows in one commit of the inventory.",
        )
        self._commit_seconds = self._times(names.COMMIT_SECONDS, "Time of one commit, fsync in it.")
        self._commit_failures = Counter(
            names.COMMIT_FAILURES,
            "Commits that failed: their certificates were withheld.",
            registry=self.registry,
        )

    def _make_edge_metrics(self) -> None:
        self._shed = Counter(
            names.SHED,
            "Calls turned away, by the bound that was met.",
            ["what"],
            registry=self.registry,
        )
        self._door = Counter(
            names.DOOR_CLOSED,
            "Time in which new connections had to wait outside, for those inside waited too long.",
            registry=self.registry,
        )
        self._forwarded_ignored = Counter(
            names.FORWARDED_IGNORED,
            "Calls with x-forwarded-client-cert where no proxy is believed: it changed nothing.",
            registry=self.registry,
        )
        self._wrong = Counter(
            names.WRONG_CERTIFICATES,
            "Certificates that failed their check and did not leave: an alarm.",
            ["backend"],
            registry=self.registry,
        )
        self._reloads = Counter(
            names.SERVING_CERTIFICATE_RELOADS,
            "Changes of the serving certificate, by result: taken or refused.",
            ["result"],
            registry=self.registry,
        )
        self._reload_children = {r: self._reloads.labels(r) for r in ("taken", "refused")}
        self._serving_expiry = self._gauge(
            names.SERVING_CERTIFICATE_EXPIRY,
            "When the serving certificate expires, Unix seconds.",
        )
        self._lines_lost = Counter(
            names.LOG_LINES_LOST,
            "Log lines that could not be written.",
            registry=self.registry,
        )

    def _sizes(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=_SIZE_BUCKETS)

    def _times(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, registry=self.registry, buckets=_TURN_BUCKETS_S)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    # From the wire.

    def calls_in_flight(self, count: Callable[[], int]) -> None:
        """Ask for the number of calls in flight when somebody looks.

        Args:
            count: Returns it.
        """
        self._in_flight.set_function(count)

    def calls_ended(
        self,
        *,
        ended: Mapping[str, int],
        issued: Mapping[tuple[str, str], int],
        seconds: Iterable[float],
    ) -> None:
        """Count the calls that ended in one turn of the event loop.

        Args:
            ended: How many calls ended with each reason or `Outcome`.
            issued: How many certificates for each (auth_method, backend).
            seconds: How long each issued certificate took.
        """
        for reason, count in ended.items():
            self._calls[reason].inc(count)
        for labels, count in issued.items():
            self._issued_child(labels).inc(count)
        for duration in seconds:
            self._seconds.observe(duration)
        self._istio.calls_ended(ended)

    def _issued_child(self, labels: tuple[str, str]) -> Counter:
        child = self._issued_children.get(labels)
        if child is None:
            child = self._issued_children[labels] = self._issued.labels(*labels)
        return child

    def forwarded_ignored(self, calls: int) -> None:
        """Count calls that said who their client is where nobody is believed."""
        self._forwarded_ignored.inc(calls)

    def serving_certificate(self, *, taken: bool, not_after: datetime | None = None) -> None:
        """Count a change of the serving certificate.

        Args:
            taken: False when the new one was refused and the old one is kept.
            not_after: When the one that was taken expires.
        """
        self._reload_children["taken" if taken else "refused"].inc()
        if not_after is not None:
            self._serving_expiry.set(not_after.timestamp())

    # From the pipeline.

    def turn_done(self, *, members: int, seconds: float, queued: int) -> None:
        """Count a turn.

        Args:
            members: Requests in it.
            seconds: How long it took.
            queued: Orders that wait for a signer after it.
        """
        self._turn_members.observe(members)
        self._turn_seconds.observe(seconds)
        self._queued.set(queued)

    def parked(self, count: int) -> None:
        """Say how many requests wait for a key set or a token review."""
        self._parked.set(count)

    def commit_done(self, *, records: int, seconds: float) -> None:
        """Count a commit; the recorder's thread may call it.

        Args:
            records: Rows in it.
            seconds: How long it took.
        """
        self._commit_records.observe(records)
        self._commit_seconds.observe(seconds)

    def commit_failed(self) -> None:
        """Count a commit that failed; the recorder's thread may call it."""
        self._commit_failures.inc()

    def shed(self, what: str) -> None:
        """Count a call that was turned away.

        Args:
            what: Which bound was met, a word of a closed set.
        """
        self._shed.labels(what).inc()

    def door_closed(self, seconds: float) -> None:
        """Count time in which new connections had to wait outside.

        Args:
            seconds: Since the last time this was told.
        """
        self._door.inc(seconds)

    def wrong_certificate(self, backend: str) -> None:
        """Count a certificate that failed its check.

        Args:
            backend: Who had signed it.
        """
        self._wrong.labels(backend).inc()

    # From the assembly.

    def issuer_in_use(self, issuer: Issuer) -> None:
        """Show when the issuer in use and its roots expire.

        Args:
            issuer: What signs now.
        """
        self._istio.issuer_in_use(issuer)

    def lines_lost(self, count: int) -> None:
        """Count log lines that could not be written."""
        self._lines_lost.inc(count)

    def render(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)
