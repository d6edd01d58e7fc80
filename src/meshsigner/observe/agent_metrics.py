"""The agent's figures, for Prometheus.

One `AgentMetrics` a process, with a registry of its own. The label `workload`
is a name from the configuration, never an identity. When to count is decided
by the callers.
"""

from collections.abc import Iterable
from datetime import datetime

from prometheus_client import (
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from meshsigner.observe import names
from meshsigner.observe.registry import process_registry, show_build

# From a key and one call to five attempts with their waits.
_OBTAINED_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# Envoy takes a secret in its main thread, usually within milliseconds.
_ACCEPTED_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class AgentMetrics:
    """All figures of one agent.

    Args:
        workloads: Names of the workloads; each is shown from the start.

    Attributes:
        registry: What `/metrics` shows.
    """

    def __init__(self, workloads: Iterable[str]) -> None:
        self.registry = process_registry()
        show_build(self.registry)
        self._make_certificate_metrics()
        self._make_secret_metrics()
        for workload in workloads:
            self._show(workload)

    def _make_certificate_metrics(self) -> None:
        self._expiry = Gauge(
            names.AGENT_CERTIFICATE_EXPIRY,
            "When the certificate that is served expires, Unix seconds; 0 while there is none.",
            ["workload"],
            registry=self.registry,
        )
        self._obtained = self._counter(
            names.AGENT_CERTIFICATES, "Certificates that a CA issued and that passed their check."
        )
        self._failures = Counter(
            names.AGENT_CERTIFICATE_FAILURES,
            "Tries to obtain a certificate that failed, by the last status of the CA, or "
            "WRONG_ANSWER: its answer failed the check.",
            ["workload", "code"],
            registry=self.registry,
        )
        self._obtained_seconds = Histogram(
            names.AGENT_CERTIFICATE_SECONDS,
            "From the making of a key to its certificate, retries in it.",
            registry=self.registry,
            buckets=_OBTAINED_BUCKETS_S,
        )

    def _make_secret_metrics(self) -> None:
        self._streams = Gauge(
            names.AGENT_STREAMS,
            "Secret streams that are open.",
            ["workload"],
            registry=self.registry,
        )
        self._sent = self._counter(
            names.AGENT_SECRETS_SENT, "Responses with secrets that left, asked for or pushed."
        )
        self._refused = self._counter(
            names.AGENT_SECRETS_REFUSED,
            "Responses that Envoy refused (NACK); why stands in the log: an alarm.",
        )
        self._accepted_seconds = Histogram(
            names.AGENT_ACCEPTED_SECONDS,
            "From a response to Envoy's acknowledgement.",
            registry=self.registry,
            buckets=_ACCEPTED_BUCKETS_S,
        )
        self._peers_refused = Counter(
            names.AGENT_PEERS_REFUSED,
            "Connections to the shared socket whose user and group belong to no workload.",
            registry=self.registry,
        )

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ["workload"], registry=self.registry)

    def _show(self, workload: str) -> None:
        self._expiry.labels(workload).set(0)
        self._streams.labels(workload).set(0)
        for counter in (self._obtained, self._sent, self._refused):
            counter.labels(workload)

    def obtained(self, workload: str, *, seconds: float) -> None:
        """Count a certificate.

        Args:
            workload: Whose.
            seconds: How long it took.
        """
        self._obtained.labels(workload).inc()
        self._obtained_seconds.observe(seconds)

    def failed(self, workload: str, code: str) -> None:
        """Count a try that brought no certificate.

        Args:
            workload: Whose.
            code: A gRPC status' name, or WRONG_ANSWER.
        """
        self._failures.labels(workload, code).inc()

    def serves(self, workload: str, not_after: datetime | None) -> None:
        """Show which certificate is served.

        Args:
            workload: Whose.
            not_after: When it expires; None when none is served.
        """
        self._expiry.labels(workload).set(0 if not_after is None else not_after.timestamp())

    def stream_opened(self, workload: str) -> None:
        """Count a stream that opened."""
        self._streams.labels(workload).inc()

    def stream_closed(self, workload: str) -> None:
        """Count a stream that ended."""
        self._streams.labels(workload).dec()

    def sent(self, workload: str) -> None:
        """Count a response."""
        self._sent.labels(workload).inc()

    def accepted(self, seconds: float) -> None:
        """Count an acknowledgement.

        Args:
            seconds: Since the response.
        """
        self._accepted_seconds.observe(seconds)

    def refused(self, workload: str) -> None:
        """Count a refusal."""
        self._refused.labels(workload).inc()

    def peer_refused(self) -> None:
        """Count a connection that was closed unheard."""
        self._peers_refused.inc()

    def render(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self.registry)
