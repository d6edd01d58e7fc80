"""A Lease of the Kubernetes API: who holds it, and when it may be taken.

Decides by what this process has seen itself: no time that another process wrote
is compared with a clock of ours. A lease may be taken once it has not changed
for its duration, by the clock of whoever looks; its holder counts from before
its request, so that it stops first, whatever the API server's pace.

Source: client-go tools/leaderelection; coordination.k8s.io/v1 Lease.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshsigner.kube import JsonObject

API_VERSION = "coordination.k8s.io/v1"
NOTES = "meshsigner.io/roots"  # annotation: when each root was published and left


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What a Lease says.

    Attributes:
        version: Its resourceVersion.
        holder: Who has it; empty when it was given back.
        duration_s: How long it lasts without a change, seconds.
        transitions: How often it has changed hands.
        notes: What leaders have noted for those that come after them.
    """

    version: str
    holder: str
    duration_s: float
    transitions: int
    notes: str

    @classmethod
    def parse(cls, document: JsonObject) -> "LeaseState":
        """Read a Lease; what is missing counts as given back.

        Raises:
            KeyError: It has no version.
        """
        spec = document.get("spec") or {}
        metadata = document["metadata"]
        annotations = metadata.get("annotations") or {}
        return cls(
            version=metadata["resourceVersion"],
            holder=spec.get("holderIdentity") or "",
            duration_s=float(spec.get("leaseDurationSeconds") or 0),
            transitions=int(spec.get("leaseTransitions") or 0),
            notes=annotations.get(NOTES) or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A state of the lease, and since when it has not changed.

    Attributes:
        state: What it said.
        since_s: When that was first seen, by the local clock.
    """

    state: LeaseState
    since_s: float

    def next(self, state: LeaseState, now_s: float) -> "Seen":
        """Return what is known after another look."""
        changed = state.version != self.state.version
        return Seen(state=state, since_s=now_s if changed else self.since_s)

    def may_be_taken(self, me: str, now_s: float) -> bool:
        """Tell whether the lease is nobody's any more, or was ours."""
        if self.state.holder in {"", me}:
            return True
        return now_s - self.since_s >= self.state.duration_s


def claim(
    name: str, me: str, duration_s: float, *, before: LeaseState | None, notes: str | None = None
) -> Mapping[str, Any]:
    """Return the Lease with which this process takes or keeps it.

    Args:
        name: Of the Lease.
        me: This process; empty gives it back.
        duration_s: How long it lasts.
        before: What it said; None makes a new one.
        notes: What to note; None leaves the notes as they are.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    changed = before is None or before.holder != me
    transitions = 0 if before is None else before.transitions + changed
    metadata: dict[str, Any] = {"name": name}
    if before is not None:
        metadata["resourceVersion"] = before.version  # else another has been faster
    kept = before.notes if before is not None else ""
    metadata["annotations"] = {NOTES: kept if notes is None else notes}
    spec: dict[str, Any] = {
        "holderIdentity": me,
        "leaseDurationSeconds": max(1, round(duration_s)),
        "renewTime": now,
        "leaseTransitions": transitions,
    }
    if changed:
        spec["acquireTime"] = now
    return {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}
