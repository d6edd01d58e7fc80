"""At which rate calls to one backend may start.

Decides when the next call starts; what is called is the dispatcher's matter.
asyncio-throttle's waiters poll, so there is only ever one of them: all others
wait for a lock, in their order. When the backend says that it is too much, the
rate is halved, and then raised again slowly.

Source: asyncio-throttle 1.0.2 (a sliding window that admits its whole allowance
at once: short periods make it even); additive increase, multiplicative
decrease as in RFC 5681 3.1.
"""

import asyncio

from asyncio_throttle.throttler import Throttler

_WINDOW_S = 0.1  # the allowance of this long may start at once
_LEAST_PER_S = 0.2
_LOWER_BY = 0.5
_RAISE_BY = 1.1
_STEP_S = 1.0  # between two raises, and between two reductions: one burst counts once
_UNLIMITED_PER_S = 10_000  # a rate learnt from refusals is forgotten above this
_POLL_S = 0.01


class Pace:
    """Grants starts.

    Args:
        rate_per_s: Most starts a second; None for no limit until the backend
            itself says that there is one.
    """

    def __init__(self, rate_per_s: int | None) -> None:
        self._ceiling_per_s: float | None = rate_per_s
        self._rate_per_s: float | None = rate_per_s
        self._throttler = _throttler(self._rate_per_s)
        self._door = asyncio.Lock()
        self._changed_at_s = 0.0
        self._closed_until_s = 0.0
        self._counted_from_s = 0.0
        self._counted = 0

    @property
    def rate_per_s(self) -> float | None:
        """Most starts a second now; None for no limit."""
        return self._rate_per_s

    @property
    def closed_for_s(self) -> float:
        """How long nothing starts because the backend said so, seconds."""
        return max(0.0, self._closed_until_s - asyncio.get_running_loop().time())

    async def grant(self) -> None:
        """Wait until one more call may start."""
        async with self._door:
            if self.closed_for_s:
                await asyncio.sleep(self.closed_for_s)
            self._raise_slowly()
            if self._throttler is not None:
                async with self._throttler:
                    pass
            self._count()

    def slow_down(self, retry_after_s: float | None) -> None:
        """Take it that the backend has had too much.

        Args:
            retry_after_s: How long it asks to be left alone, if it does.
        """
        now_s = asyncio.get_running_loop().time()
        if retry_after_s is not None:
            self._closed_until_s = max(self._closed_until_s, now_s + retry_after_s)
        if now_s - self._changed_at_s >= _STEP_S:
            seen = self._rate_per_s if self._rate_per_s is not None else self._seen_per_s(now_s)
            self._set(max(_LEAST_PER_S, seen * _LOWER_BY), now_s)

    def _raise_slowly(self) -> None:
        now_s = asyncio.get_running_loop().time()
        rate, ceiling = self._rate_per_s, self._ceiling_per_s
        if rate is None or rate == ceiling or now_s - self._changed_at_s < _STEP_S:
            return
        raised: float | None = rate * _RAISE_BY
        if ceiling is not None:
            raised = min(rate * _RAISE_BY, ceiling)
        elif rate * _RAISE_BY > _UNLIMITED_PER_S:
            raised = None
        self._set(raised, now_s)

    def _set(self, rate_per_s: float | None, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._throttler = _throttler(rate_per_s)
        self._changed_at_s = now_s

    def _count(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._counted_from_s > 2 * _STEP_S:
            self._counted_from_s, self._counted = now_s, 0
        self._counted += 1

    def _seen_per_s(self, now_s: float) -> float:
        """Return how many calls started a second lately."""
        return self._counted / max(now_s - self._counted_from_s, _STEP_S)


def _throttler(rate_per_s: float | None) -> Throttler | None:
    if rate_per_s is None:
        return None
    at_once = max(1, int(rate_per_s * _WINDOW_S))
    period_s = at_once / rate_per_s
    return Throttler(rate_limit=at_once, period=period_s, retry_interval=min(_POLL_S, period_s / 4))
