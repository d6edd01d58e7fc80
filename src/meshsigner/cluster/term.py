"""How long a leader may write: until its lease could be another's.

Pure but for the clock that is handed in. The clock must go on while the process
or the machine sleeps (CLOCK_BOOTTIME): a leader that was frozen past its lease
must know so before it does anything else.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def boot_clock() -> float:
    """Return seconds that go on in a suspended machine and never jump."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class TermOver(Exception):
    """This process is the leader no more, or cannot know that it is."""


class Term:
    """One time of leading.

    Args:
        ends_s: When the lease could be another's, by the clock.
        clock: Tells the time, in seconds.
    """

    def __init__(self, ends_s: float, clock: Clock = boot_clock) -> None:
        self._ends_s = ends_s
        self._clock = clock
        self._over = False

    def check(self) -> None:
        """Go on only while the lease is ours.

        Raises:
            TermOver: It may be another's.
        """
        if not self.is_valid():
            raise TermOver

    def is_valid(self) -> bool:
        """Tell whether the lease is ours; once it was not, it never is again."""
        if self._clock() >= self._ends_s:
            self._over = True
        return not self._over

    def extend(self, ends_s: float) -> None:
        """Take a renewed lease into account; a term that is over stays over."""
        if self.is_valid():
            self._ends_s = ends_s

    def end(self) -> None:
        """Lead no more."""
        self._over = True
