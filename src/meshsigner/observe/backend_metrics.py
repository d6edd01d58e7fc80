"""Figures of the signing backends: what waits, how calls end, who is usable.

Families are the process's, made once by `Metrics`; each backend gets its
children. A process whose backends all sign in its own turns has none of the
figures of calls.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from meshsigner.observe import names

_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class BackendFamilies:
    """The families, one set a process.

    Args:
        registry: What `/metrics` shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.usable = self._gauge(
            names.BACKEND_USABLE,
            "1 while orders are given to the backend, 0 while it is left alone or not ready.",
        )
        self.handed_on = self._counter(
            names.BACKEND_HANDED_ON,
            "Orders that a backend failed and another one was given, by the one that failed.",
        )
        self.waiting = self._gauge(
            names.BACKEND_WAITING, "Orders that wait for a call of a remote backend."
        )
        self.wait = self._histogram(
            names.BACKEND_WAIT,
            "How long an order waited until its call of a remote backend was granted.",
        )
        self.calls = self._histogram(
            names.BACKEND_CALLS, "How long calls of a remote backend took, repetitions in it."
        )
        self.orders = self._counter(
            names.BACKEND_ORDERS,
            "Orders by how their call of a remote backend ended: ok, or a reason of errors.md.",
            "result",
        )
        self.rejected = self._counter(
            names.BACKEND_REJECTED,
            "Orders for which a remote backend was not called: no longer in time.",
            "why",
        )
        self.retries = self._counter(
            names.BACKEND_RETRIES, "Calls of a remote backend that repeat one that failed."
        )
        self.rate = self._gauge(
            names.BACKEND_RATE, "Remote calls that may start in a second now; 0 without a limit."
        )
        self.intents = self._gauge(
            names.BACKEND_INTENTS,
            "Calls of a remote backend that may have issued a certificate nobody has seen.",
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["backend"], registry=self._registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, ["backend", *labels], registry=self._registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, ["backend"], registry=self._registry, buckets=_BUCKETS_S)


class LaneMetrics:
    """What every backend has.

    Args:
        families: The process's.
        backend: Its name.
    """

    def __init__(self, families: BackendFamilies, backend: str) -> None:
        self._handed_on = families.handed_on.labels(backend)
        self._usable = families.usable.labels(backend)

    def follow_usable(self, usable: Callable[[], bool]) -> None:
        """Ask whether it is usable when somebody looks."""
        self._usable.set_function(lambda: float(usable()))

    def handed_on(self) -> None:
        """Count an order that another backend was given."""
        self._handed_on.inc()


class BackendMetrics:
    """What a remote backend has besides.

    Args:
        families: The process's.
        backend: Its name.
    """

    def __init__(self, families: BackendFamilies, backend: str) -> None:
        self._families = families
        self._backend = backend
        self._wait = families.wait.labels(backend)
        self._calls = families.calls.labels(backend)
        self._retries = families.retries.labels(backend)

    def follow(
        self,
        *,
        waiting: Callable[[], int],
        rate: Callable[[], float | None],
        intents: Callable[[], int],
    ) -> None:
        """Ask for these when somebody looks.

        Args:
            waiting: Orders in its queue.
            rate: Calls that may start a second; None for no limit.
            intents: Its open intents.
        """
        families, backend = self._families, self._backend
        families.waiting.labels(backend).set_function(waiting)
        families.rate.labels(backend).set_function(lambda: rate() or 0.0)
        families.intents.labels(backend).set_function(intents)

    def granted(self, waits_s: Iterable[float]) -> None:
        """Count orders that a call was granted for, by how long they waited, seconds."""
        for wait_s in waits_s:
            self._wait.observe(wait_s)

    def call_ended(self, seconds: float) -> None:
        """Count a call."""
        self._calls.observe(seconds)

    def order_ended(self, result: str) -> None:
        """Count how an order ended: `ok`, or a reason of docs/errors.md."""
        self._families.orders.labels(self._backend, result).inc()

    def rejected(self, why: str, count: int) -> None:
        """Count orders without a call: `deadline`, no longer in time."""
        self._families.rejected.labels(self._backend, why).inc(count)

    def retried(self) -> None:
        """Count a repetition."""
        self._retries.inc()
