"""Whether a backend is left alone because it is down.

After some failed calls in a row nothing is sent for a moment; then one call
tries whether it is back. Counting is the library circuitbreaker's; what counts
as a failure is said by who calls.

Source: the pattern in Nygard, Release It!; circuitbreaker 2.1.3.
"""

from enum import StrEnum
from time import monotonic

from circuitbreaker import CircuitBreaker

from meshsigner.errors import ServiceFault

FAILURES = 5  # in a row
RECOVERY_S = 2.0  # callers are served again within seconds of a backend's return
# What signs something else than was ordered is no hiccup.
WRONG_RECOVERY_S = 30.0


class Circuit(StrEnum):
    """Whether calls are made."""

    CLOSED = "closed"  # yes
    OPEN = "open"  # no
    TRYING = "trying"  # one, to find out


class Breaker:
    """Counts how the calls of one backend end.

    Args:
        failures: Failed calls in a row that open it.
        recovery_s: How long it stays open, seconds.
        wrong_recovery_s: The same after a wrong certificate.
    """

    def __init__(
        self,
        *,
        failures: int = FAILURES,
        recovery_s: float = RECOVERY_S,
        wrong_recovery_s: float = WRONG_RECOVERY_S,
    ) -> None:
        self._breaker = CircuitBreaker(
            failure_threshold=failures,
            recovery_timeout=recovery_s,
            expected_exception=ServiceFault,
        )
        self._wrong_recovery_s = wrong_recovery_s
        self._wrong_until_s = 0.0

    @property
    def circuit(self) -> Circuit:
        """Whether calls are made now."""
        if monotonic() < self._wrong_until_s:
            return Circuit.OPEN
        if self._wrong_until_s or self._breaker.state == "half_open":
            return Circuit.TRYING
        return Circuit.OPEN if self._breaker.opened else Circuit.CLOSED

    def succeeded(self) -> None:
        """Count a call that the backend answered, be it with a refusal."""
        self._breaker.reset()

    def failed(self, error: ServiceFault) -> None:
        """Count a call that failed through the backend's fault."""
        self._breaker.__exit__(type(error), error, None)

    def signed_wrong(self) -> None:
        """Open it at once, for longer."""
        self._wrong_until_s = monotonic() + self._wrong_recovery_s

    def signed_right(self) -> None:
        """Close what a wrong certificate opened."""
        self._wrong_until_s = 0.0
