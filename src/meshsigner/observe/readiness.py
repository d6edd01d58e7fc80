"""Whether this process can do its work, asked of every part each time.

Gathers what the parts say of themselves; shown by `admin`, followed by the
gRPC health service. Holds no state but the drain, which ends readiness for good.
"""

from collections.abc import Callable, Sequence

from meshsigner.model import Health


class Readiness:
    """Asks every part whether it can do its work.

    Args:
        parts: Each returns the health of one or more parts, from what it
            already knows: no part waits or calls out here.
    """

    def __init__(self, parts: Sequence[Callable[[], Sequence[Health]]]) -> None:
        self._parts = tuple(parts)
        self._draining = False

    def drain(self) -> None:
        """Be not ready from now on: the process is ending."""
        self._draining = True

    def report(self) -> tuple[Health, ...]:
        """Return the health of every part."""
        found = [health for part in self._parts for health in part()]
        detail = "draining: the process is ending" if self._draining else "accepting calls"
        return (*found, Health(name="server", ready=not self._draining, detail=detail))

    @property
    def ready(self) -> bool:
        """True when every part is."""
        return all(health.ready for health in self.report())
