"""What was found out about tokens a moment ago.

Decides how many answers are kept and until when; whether an answer may be kept
at all is decided by who gives it. One store per authenticator and cluster,
never shared. A text is remembered by its SHA-256 only.
"""

from collections import OrderedDict

from meshsigner.errors import Unauthenticated
from meshsigner.model import Caller

REFUSED_FOR_S = 5.0  # long enough to blunt a flood of one bad token, short for a fixed mistake


class Verdicts:
    """Accepted and refused tokens, bounded apart so that bad ones never displace good ones.

    Args:
        capacity: How many of each kind are kept; the least recently used go first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._accepted: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def recall(self, digest: bytes, now_s: float) -> Caller | None:
        """Return the caller whose token this is, or None when nothing is known.

        Args:
            digest: SHA-256 of the token.
            now_s: The turn's time, seconds since the epoch.

        Raises:
            Unauthenticated: The token was refused and the refusal still stands.
        """
        accepted = self._accepted.get(digest)
        if accepted is not None and now_s < accepted[1]:
            self._accepted.move_to_end(digest)
            return accepted[0]
        refused = self._refused.get(digest)
        if refused is not None and now_s < refused[1]:
            raise Unauthenticated(refused[0])
        return None

    def accept(self, digest: bytes, caller: Caller, until_s: float) -> None:
        """Remember a caller.

        Args:
            digest: SHA-256 of the token.
            caller: Whose it is.
            until_s: First second at which this is no longer known.
        """
        self._refused.pop(digest, None)
        self._accepted[digest] = (caller, until_s)
        self._accepted.move_to_end(digest)
        if len(self._accepted) > self._capacity:
            self._accepted.popitem(last=False)

    def refuse(self, digest: bytes, cause: str, until_s: float) -> None:
        """Remember a refusal.

        Args:
            digest: SHA-256 of the token.
            cause: Why, for the log.
            until_s: First second at which this is no longer known.
        """
        self._accepted.pop(digest, None)
        self._refused[digest] = (cause, until_s)
        self._refused.move_to_end(digest)
        if len(self._refused) > self._capacity:
            self._refused.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._accepted.clear()
        self._refused.clear()
