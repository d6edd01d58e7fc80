"""Whether a server of several workers is ready, from what each says of itself.

Pure. The rule: all workers must have come up once; from then on the server is
ready while at least one worker serves and every worker that serves is ready. A
worker that is down gets no connections, the kernel gives them to the others:
the server is slower, not unable. One that serves and cannot issue gets its
share of the connections and fails them: then it is better that the load
balancer looks elsewhere, all the more as its cause is mostly everybody's (the
disk, the API server, the CA).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshsigner.model import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one worker stands.

    Attributes:
        number: Its place.
        serving: Whether it takes connections.
        detail: What it does, in words: starting, serving, waiting for a restart.
        parts: The health of its parts; empty when it does not serve.
    """

    number: int
    serving: bool
    detail: str
    parts: tuple[Health, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What probes are told.

    Attributes:
        ready: Whether the server is.
        parts: Every part of every worker, and the workers themselves.
    """

    ready: bool
    parts: tuple[Health, ...]


def judge(standings: Sequence[Standing], *, complete: bool, draining: bool) -> Verdict:
    """Judge.

    Args:
        standings: Of all workers that run or should.
        complete: Whether all workers have come up once.
        draining: Whether the server is ending.
    """
    serving = [one for one in standings if one.serving]
    able = all(part.ready for one in serving for part in one.parts)
    ready = complete and not draining and bool(serving) and able
    own = Health(name="server", ready=ready, detail=_words(serving, standings, draining))
    parts = (part for one in standings for part in _parts_of(one))
    return Verdict(ready=ready, parts=(*parts, own))


def _words(serving: Sequence[Standing], standings: Sequence[Standing], draining: bool) -> str:  # noqa: FBT001 - a fact
    if draining:
        return "draining: the process is ending"
    return f"{len(serving)} of {len(standings)} workers serve"


def _parts_of(one: Standing) -> tuple[Health, ...]:
    name = f"worker {one.number}"
    own = Health(name=name, ready=one.serving, detail=one.detail)
    return (
        own,
        *(
            Health(name=f"{name}, {part.name}", ready=part.ready, detail=part.detail)
            for part in one.parts
        ),
    )
