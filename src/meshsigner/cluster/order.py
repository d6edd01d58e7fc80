"""What must come before what when the roots of a mesh change.

Pure. A root is published once it stands everywhere in the cluster where
workloads look for it. Before that nobody may be shown a certificate that chains
to it, and before all leaves of the time before have been renewed it may not
sign; the old one stays until the last leaf under it has ended. What leaders
have seen is kept with the lease, so that the next one goes on from there.

Source: istio-contract 7.4; docs/standards.md 60 and 61.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ID_DIGITS = 32


def root_id(root: x509.Certificate) -> str:
    """Name a trust anchor: by subject and key, whatever its validity (RFC 5280 6.1.1 d)."""
    key = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(root.subject.public_bytes() + key).hexdigest()[:_ID_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class RootTimes:
    """What is known of one root.

    Attributes:
        published: Since when it stands everywhere.
        retired: Since when another root signs; None while it signs or never has.
    """

    published: datetime
    retired: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of all roots that stand in the bundle.

    Attributes:
        roots: By their ids.
        active: Id of the one that signs; empty while unknown.
    """

    roots: Mapping[str, RootTimes] = field(default_factory=dict)
    active: str = ""

    @classmethod
    def parse(cls, text: str) -> "History":
        """Read what `render` wrote; what cannot be read is nothing, and is observed anew."""
        try:
            document = json.loads(text)
            roots = {
                name: RootTimes(
                    published=datetime.fromisoformat(times["published"]),
                    retired=_moment(times.get("retired")),
                )
                for name, times in document["roots"].items()
            }
            return cls(roots=roots, active=str(document["active"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def render(self) -> str:
        """Write it as text."""
        roots = {
            name: {
                "published": times.published.isoformat(),
                **({"retired": times.retired.isoformat()} if times.retired else {}),
            }
            for name, times in sorted(self.roots.items())
        }
        return json.dumps({"active": self.active, "roots": roots}, separators=(",", ":"))

    def published(self, bundle: Sequence[str], now: datetime) -> "History":
        """Return what is known once a bundle stands everywhere.

        Args:
            bundle: Ids of its roots, the one that signs first.
            now: The time.
        """
        times = {name: self.roots.get(name, RootTimes(published=now)) for name in bundle}
        active = bundle[0]
        if self.active and self.active != active and self.active in times:
            times[self.active] = replace(times[self.active], retired=now)
        times[active] = replace(times[active], retired=None)
        return History(roots=times, active=active)


def may_present(history: History, root: str, now: datetime, settle: timedelta) -> bool:
    """Tell whether a serving certificate may chain to a root: it has reached all who check.

    Args:
        history: What is known.
        root: Id of the root.
        now: The time.
        settle: How long files in pods take to follow the objects of the cluster.
    """
    times = history.roots.get(root)
    return times is not None and now - times.published >= settle


def change_faults(
    history: History,
    before: Sequence[str],
    after: Sequence[str],
    now: datetime,
    longest: timedelta,
) -> Iterator[str]:
    """Say which change of the CA comes too early.

    Args:
        history: What is known.
        before: Ids of the bundle until now, the root that signs first.
        after: Ids of what would follow.
        now: The time.
        longest: Longest lifetime of a leaf.
    """
    if after[0] != before[0] and not may_present(history, after[0], now, longest):
        times = history.roots.get(after[0])
        since = "not everywhere in the cluster yet" if times is None else f"since {times.published}"
        yield (
            f"its root is published {since}, and leaves last up to {longest}: who was not renewed "
            "since does not trust it; wait, or restart to take it at once"
        )
    for root in set(before) - set(after):
        times = history.roots.get(root)
        retired = times.retired if times is not None else None
        if root == history.active or (retired is not None and now - retired < longest):
            since = f"signed until {retired}" if retired else "signs"
            yield (
                f"it drops a root that {since}, and leaves last up to {longest}: keep it in the "
                "bundle until the last of them has ended, or restart to drop it at once"
            )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
