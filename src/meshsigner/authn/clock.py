"""The adapters' own clock, for what happens between turns.

A turn brings its time with it; a refresh in the background or an answer that
arrives later needs one of its own. Tests hand in another.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)
