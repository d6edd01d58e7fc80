"""What load is put on a server, in words that travel to driver processes.

Pure values: how calls reach the server (way), and when they are sent (pace).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.load.arrivals import NS_PER_S, stepped_arrivals
from benchmarks.load.calls import Call
from benchmarks.load.client import Server
from benchmarks.load.records import read_calls

BUCKET_S: Final = 0.25
"""How finely answers are counted over time."""

BUCKET_NS: Final = round(BUCKET_S * NS_PER_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSlice:
    """A stretch of prepared calls.

    Args:
        files: Files of `chunk` calls each.
        chunk: How many.
        start: Position of the first call, over all files.
        count: How many calls.
    """

    files: tuple[Path, ...]
    chunk: int
    start: int
    count: int

    def calls(self) -> Iterator[Call]:
        """Yield the calls in order."""
        first = self.start // self.chunk
        every = (call for file in self.files[first:] for call in read_calls(file))
        skip = self.start - first * self.chunk
        return islice(every, skip, skip + self.count)

    def part(self, start: int, count: int) -> "CallSlice":
        """Return a stretch of this one.

        Raises:
            ValueError: It is not that long.
        """
        if start + count > self.count:
            raise ValueError(f"calls {start} to {start + count} of {self.count}")
        return replace(self, start=self.start + start, count=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """All calls over connections that stand before the load begins.

    Args:
        connections: How many in all processes together.
    """

    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """A new TLS connection for every call (or, in a population, for every five attempts)."""


Way = Warm | Fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A number of calls under way at any time: shows what a server can do at most.

    Args:
        in_flight: How many, in all processes together.
        seconds: When the last call is sent; None is when there are no more.
    """

    in_flight: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Calls at planned times, whatever became of those before: the open loop.

    Args:
        steps: Rates with how long they hold: (calls per second, seconds).
        seed: Of the random times; equal seeds, equal times.
    """

    steps: tuple[tuple[float, float], ...]
    seed: int = 1

    def offsets_ns(self, number: int, of: int) -> Iterator[int]:
        """Yield the planned times of one process of several, ns from the start."""
        return islice(stepped_arrivals(self.steps, self.seed), number, None, of)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return sum(seconds for _, seconds in self.steps)

    @property
    def count(self) -> int:
        """How many calls it takes."""
        return sum(1 for _ in stepped_arrivals(self.steps, self.seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """A fixed number of places, each with one istio-agent at a time that asks until it has it.

    Args:
        steps: How many places are in use, and for how long: (places, seconds).
        think_s: Mean pause between a certificate and the place's next identity.
        drain_s: How long those that wait at the end may go on.
        once: Whether each place has one identity only; then think_s is how far apart,
            on average, they begin.
    """

    steps: tuple[tuple[int, float], ...]
    think_s: float
    drain_s: float
    once: bool = False

    @property
    def most(self) -> int:
        """The largest number of places."""
        return max(places for places, _ in self.steps)

    @property
    def seconds(self) -> float:
        """How long new identities come."""
        return sum(seconds for _, seconds in self.steps)

    @property
    def ends_s(self) -> float:
        """When the last attempt ends."""
        return self.seconds + self.drain_s

    def wants(self, place: int, at_s: float) -> bool | None:
        """Tell whether a place is in use at a time; None once all is over."""
        for places, seconds in self.steps:
            if at_s < seconds:
                return place < places
            at_s -= seconds
        return None

    def share(self, number: int, of: int) -> "Population":
        """Return what one process of several does of it."""
        steps = tuple((_share(places, number, of), seconds) for places, seconds in self.steps)
        return replace(self, steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Ztunnels: a channel each, eight fetches in flight, a back-off for each identity.

    Args:
        nodes: How many.
        seconds: How long they begin new fetches; None for as long as there are calls.
        drain_s: How long those that wait at the end may go on.
    """

    nodes: int
    seconds: float | None
    drain_s: float

    def share(self, number: int, of: int) -> "Nodes":
        """Return what one process of several does of it."""
        return replace(self, nodes=_share(self.nodes, number, of))


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd:
    """Connections that are opened, and then do nothing until they are told to close.

    Args:
        connections: How many.
        at_once: How many are in their handshake at any time.
    """

    connections: int
    at_once: int = 32


Pace = Closed | Arrivals | Population | Nodes | Herd


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load on one server.

    Args:
        name: For the report.
        server: Whom.
        calls: What is asked; a herd asks nothing.
        pace: When.
        way: Over what.
        processes: How many drivers share it.
        cores: CPUs that they may use.
        timeout_s: How long after the last call answers are waited for.
    """

    name: str
    server: Server
    calls: CallSlice
    pace: Pace
    way: Way
    processes: int = 1
    cores: tuple[int, ...] = ()
    timeout_s: float = 30.0

    @property
    def is_herd(self) -> bool:
        """Whether it goes on until it is told to stop."""
        return isinstance(self.pace, Herd)


def _share(total: int, number: int, of: int) -> int:
    return total // of + (number < total % of)
