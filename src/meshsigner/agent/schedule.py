"""When a certificate is asked for next: decided, not waited for.

Renewal at a part of the lifetime, with jitter, as istio-agent has it; after a
failure an exponential back-off with jitter, so that a fleet whose CA was away
does not come back as one. Randomness and the time are arguments.

Source: istio security/pkg/nodeagent/cache/secretcache.go rotateTime;
istio pkg/backoff over cenkalti/backoff (0.5 s to 60 s, factor 1.5, +-50 %).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_RETRY = timedelta(milliseconds=500)  # cenkalti DefaultInitialInterval
LAST_RETRY = timedelta(seconds=60)  # istio pkg/backoff defaultMaxInterval
RETRY_FACTOR = 1.5  # cenkalti DefaultMultiplier
RETRY_JITTER = 0.5  # cenkalti DefaultRandomizationFactor
_MAX_STEPS = 40  # two months: more than any last wait, and no number overflows
RETRIES_IN_A_LIFE = 20  # a short-lived certificate is not outlived by one long wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Settings of renewal.

    Attributes:
        grace_ratio: Part of the lifetime that is left at renewal
            (SECRET_GRACE_PERIOD_RATIO).
        grace_jitter: How far that part may be moved at random, either way
            (SECRET_GRACE_PERIOD_RATIO_JITTER).
        last_retry: Longest wait between two tries.
        spread: A renewal that something else than age calls for is put off at
            random by at most this, for the same calls on all other workloads.
    """

    grace_ratio: float = 0.5
    grace_jitter: float = 0.01
    last_retry: timedelta = LAST_RETRY
    spread: timedelta = timedelta(seconds=10)


def renewal_at(taken_at: datetime, not_after: datetime, timing: Timing, random: float) -> datetime:
    """Say when a certificate is renewed.

    Args:
        taken_at: When it came.
        not_after: When it expires.
        timing: Settings.
        random: From 0 to 1.
    """
    ratio = timing.grace_ratio + timing.grace_jitter * (2 * random - 1)
    return not_after - min(max(ratio, 0.0), 1.0) * (not_after - taken_at)


def retry_after(
    failures: int, lifetime: timedelta | None, timing: Timing, random: float
) -> timedelta:
    """Say how long to wait after a failure.

    Args:
        failures: How many there were in a row, this one included.
        lifetime: Of the certificate in use; None when there is none.
        timing: Settings.
        random: From 0 to 1.
    """
    last = timing.last_retry
    if lifetime is not None:
        last = min(last, max(lifetime / RETRIES_IN_A_LIFE, FIRST_RETRY))
    wait = min(FIRST_RETRY * RETRY_FACTOR ** min(failures - 1, _MAX_STEPS), last)
    return wait * (1 + RETRY_JITTER * (2 * random - 1))
