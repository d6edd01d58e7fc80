"""Whether a cluster's API server answers token reviews, as health and log tell it.

Decides when silence becomes unreadiness and what is told once. Who asks the
server is `token_review`.
"""

from datetime import datetime, timedelta

from meshsigner.authn.clock import Clock
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

PROBE_EVERY_S = 30.0
PROBE_RETRY_S = 5.0
TOLERATED = timedelta(seconds=10)  # a lost call or two say little, readiness should not flap


class ReviewWatch:
    """Whether the API server answered lately, and whether it holds itself to be ready.

    Args:
        cluster: Id of its cluster.
        clock: Returns the time, UTC.
    """

    def __init__(self, cluster: str, clock: Clock) -> None:
        self._name = f"authn/{cluster}/token_review"
        self._cluster = cluster
        self._clock = clock
        self._problem: str | None = "the API server has not answered yet"
        self._failing_since: datetime | None = None
        self._ever = False
        self._answered = False
        self._doubt: str | None = None

    def probe_pause_s(self) -> float:
        """Return how long to wait before the next probe, seconds."""
        well = self._problem is None and self._doubt is None
        return PROBE_EVERY_S if well else PROBE_RETRY_S

    def is_idle(self) -> bool:
        """Return whether nothing was answered since this was last asked."""
        answered, self._answered = self._answered, False
        return not answered

    def answered(self) -> None:
        """Note that it gave a verdict."""
        if self._problem is not None:
            get_logger().info(Event.TOKEN_REVIEWS_WORK, cluster=self._cluster)
        self._problem, self._failing_since = None, None
        self._ever = self._answered = True

    def failed(self, problem: str) -> None:
        """Note that it gave none, and why."""
        if self._failing_since is None:
            self._failing_since = self._clock()
            get_logger().error(Event.TOKEN_REVIEWS_FAIL, cluster=self._cluster, problem=problem)
        self._problem = problem

    def doubts(self, doubt: str | None) -> None:
        """Note what it says of itself; nothing new while it does not answer at all.

        Args:
            doubt: Why it is not ready; None when it is.
        """
        if self._problem is not None:
            return
        if doubt is not None and self._doubt is None:
            get_logger().error(Event.TOKEN_REVIEWS_DOUBTED, cluster=self._cluster, problem=doubt)
        self._doubt = doubt

    def health(self, stopped: str | None = None) -> Health:
        """Say whether callers can be proven.

        A server whose store is away still proves most of them, and stays ready.

        Args:
            stopped: Why nobody looks any more; None while somebody does.
        """
        since = self._failing_since
        late = since is not None and self._clock() - since >= TOLERATED
        ready = self._ever and not late and stopped is None
        detail = stopped or self._problem or self._doubt_text() or "the API server answers"
        return Health(name=self._name, ready=ready, detail=detail)

    def _doubt_text(self) -> str:
        if self._doubt is None:
            return ""
        return (
            "the API server answers, but is not ready itself: tokens of pods that it cannot look "
            f"up are neither proven nor refused ({self._doubt})"
        )
