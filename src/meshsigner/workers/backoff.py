"""How long to wait before a worker that ended is started again.

Pure. The first restart comes almost at once, each further one waits twice as
long, up to a bound; a worker that has lived for a while proves that starting
it is worth while again. Jitter keeps workers that died of one cause from
coming back in step.
"""

from collections.abc import Callable

FIRST_S = 0.1
LONGEST_S = 30.0
PROVEN_AFTER_S = 60.0
_JITTER = 0.2


class Backoff:
    """The waits of one worker's place.

    Args:
        jitter: Returns a number from 0 to 1, another one each time.
    """

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._in_a_row = 0

    def next_s(self, lived_s: float) -> float:
        """Return how long to wait now, in seconds.

        Args:
            lived_s: How long the worker that ended was serving, 0 if it never did.
        """
        if lived_s >= PROVEN_AFTER_S:
            self._in_a_row = 0
        wait_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._in_a_row, 16))
        self._in_a_row += 1
        return wait_s * (1 - _JITTER + 2 * _JITTER * self._jitter())
