"""What supervisor and workers say to each other, and how a worker's report looks.

Values only; `channel` carries them. Settings travel whole, environment and
defaults included: a worker that starts later must not read a file that has
changed since. No secret is in them, for secrets are paths.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from meshsigner.model import Health
from meshsigner.observe.families import Family, from_plain, to_plain


class Kind(StrEnum):
    """What a message is."""

    # from the supervisor
    START = "start"
    LISTEN = "listen"
    RELOAD = "reload"
    ASK = "ask"
    STEER_FREELY = "steer freely"
    END = "end"
    # from a worker
    PREPARED = "prepared"
    SERVING = "serving"
    FAILED = "failed"
    REPORT = "report"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message.

    Attributes:
        kind: What it is.
        content: What belongs to that kind, as JSON knows it.
    """

    kind: Kind
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says of itself.

    Attributes:
        parts: Health of its parts.
        families: Its figures.
        roots_pem: Roots of the CA in use, that in use first.
    """

    parts: tuple[Health, ...]
    families: tuple[Family, ...]
    roots_pem: str

    def to_content(self) -> dict[str, Any]:
        """Return it as a message's content."""
        return {
            "parts": [[part.name, part.ready, part.detail] for part in self.parts],
            "families": to_plain(self.families),
            "roots_pem": self.roots_pem,
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Report":
        """Return the report that a message holds."""
        return cls(
            parts=tuple(Health(name=n, ready=r, detail=d) for n, r, d in content["parts"]),
            families=from_plain(content["families"]),
            roots_pem=content["roots_pem"],
        )


NOTHING_SAID = Report(parts=(), families=(), roots_pem="")
