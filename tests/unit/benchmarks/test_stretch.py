"""Whole stretches against a server on the wire that behaves, stalls, or misbehaves in one way.

Driver processes, wire, audit and books are the real ones; the server is the fake CA.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.load.audit import Auditor, InventoryCheck, compare_inventory
from benchmarks.load.client import Server
from benchmarks.load.loads import (
    Arrivals,
    CallSlice,
    Closed,
    Fresh,
    Load,
    Pace,
    Population,
    Warm,
    Way,
)
from benchmarks.load.records import write_calls
from benchmarks.load.tokens import TokenIssuer
from benchmarks.load.workload import Recipe
from benchmarks.scenarios.stretch import Bench, Event, Stretch
from benchmarks.scenarios.subject import Running
from tests.fakes.serving_tls import TestRoots
from tests.fakes.workload_ca import CaServer, FakeCa, fresh_ca, serve

CALLS = 40


class Unwatched:
    """Nobody looks on."""

    def begin(self, name: str, expected: int) -> None:
        """Take no notice."""

    def moved(self, done: int, granted: int) -> None:
        """Take no notice."""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> CallSlice:
    """Return prepared calls of forty callers."""
    issuer = ec.generate_private_key(ec.SECP256R1())
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(CALLS)]
    recipe = Recipe(
        tokens=TokenIssuer(key=issuer, key_id="k", issuer="https://issuer.example"),
        keys=keys,
        trust_domain="cluster.local",
        prefix="t",
    )
    file = tmp_path_factory.mktemp("calls") / "calls.bin"
    write_calls(file, recipe.make_calls(CALLS, lambda: None))
    return CallSlice(files=(file,), chunk=CALLS, start=0, count=CALLS)


class Lab:
    """A fake CA under load.

    Attributes:
        ca: The CA.
        server: The CA's server.
        auditor: Has the run's audit.
    """

    def __init__(self, ca: FakeCa, server: CaServer, roots: Path, directory: Path) -> None:
        self.ca = ca
        self.server = server
        self.auditor = Auditor([root.certificate for root in ca.roots])
        self._bench = Bench(directory=directory, auditor=self.auditor, watch=Unwatched())
        address = Server(host="127.0.0.1", port=server.port, name="localhost", roots=roots)
        self._running = Running(name="fake", server=address, pid=None)

    async def measure(
        self, calls: CallSlice, pace: Pace, way: Way | None = None, events: tuple[Event, ...] = ()
    ) -> Stretch:
        """Put a load on the server, of two drivers if it is all calls."""
        load = Load(
            name="load",
            server=self._running.server,
            calls=calls,
            pace=pace,
            way=way or Fresh(),
            processes=2 if calls.count == CALLS else 1,
            timeout_s=5,
        )
        return await asyncio.to_thread(
            self._bench.measure, "stretch", lambda: [self._running], [load], events
        )


@asynccontextmanager
async def lab(directory: Path) -> AsyncIterator[Lab]:
    """Have a fake CA behind the wire."""
    identities = TestRoots()
    roots = directory / "roots.pem"
    roots.write_bytes(identities.pem)
    ca = FakeCa()
    async with serve(ca, identities.issue("localhost")) as server:
        yield Lab(ca, server, roots, directory)


async def test_everyone_gets_their_own(tmp_path: Path, calls: CallSlice) -> None:
    """Two processes share the calls, and every answer is right and counted once."""
    async with lab(tmp_path) as bench:
        books = (await bench.measure(calls, Closed(in_flight=4))).first
        assert (books.right, books.faulty, books.unexpected) == (CALLS, 0, 0)
        assert len(set(bench.server.peers)) == CALLS
        asked = {message.csr for message in bench.server.messages}
        assert len(asked) == CALLS
        assert sum(slot["granted"] for slot in books.timeline()) == CALLS


async def test_swapped_certificates_are_found(tmp_path: Path, calls: CallSlice) -> None:
    """A server that hands one caller's certificate to another is caught, by key and name."""
    async with lab(tmp_path) as bench:
        kept: list[tuple[str, ...]] = []

        def swap(chain: tuple[str, ...]) -> tuple[str, ...]:
            kept.append(chain)
            return kept[-2] if len(kept) == 2 else chain

        bench.ca.script = [swap, swap]
        books = (await bench.measure(calls.part(0, 6), Closed(in_flight=2))).first
        assert (books.right, books.faulty) == (5, 1)
        assert "another's public key" in books.faults[0]


async def test_doubled_certificate_is_found(tmp_path: Path, calls: CallSlice) -> None:
    """One certificate that two of the same caller's calls get is given out twice."""
    async with lab(tmp_path) as bench:
        first: list[tuple[str, ...]] = []

        def keep(chain: tuple[str, ...]) -> tuple[str, ...]:
            first.append(chain)
            return chain

        def again(_: tuple[str, ...]) -> tuple[str, ...]:
            return first[0]

        file = tmp_path / "one.bin"
        write_calls(file, calls.part(0, 1).calls())
        twice = CallSlice(files=(file, file), chunk=1, start=0, count=2)
        bench.ca.script = [keep, again]
        books = (await bench.measure(twice, Closed(in_flight=1))).first
        assert (books.right, books.faulty) == (1, 1)
        assert "given out twice" in books.faults[0]


async def test_foreign_chain_is_found(tmp_path: Path, calls: CallSlice) -> None:
    """A right leaf under a CA that clients do not trust is no right certificate."""
    async with lab(tmp_path) as bench:
        stranger = fresh_ca("stranger")
        bench.ca.issuer, bench.ca.intermediates = stranger, [stranger]
        books = (await bench.measure(calls.part(0, 2), Closed(in_flight=1))).first
        assert books.faulty == 2
        assert "does not lead to a trusted root" in books.faults[0]


def test_inventory_is_compared() -> None:
    """A row that is missing, doubled or of another certificate is named."""
    issued = {serial: bytes([serial]) for serial in range(4)}
    rows = list(issued.items())
    assert compare_inventory(issued, rows).clean
    found = compare_inventory(issued, [(0, b"another"), *rows[1:3], rows[1], (7, b"nobody's")])
    assert found == InventoryCheck(
        received=4,
        recorded=5,
        missing=("3",),
        different=("0",),
        doubled=("1",),
        undelivered=1,
    )


async def test_stall_shows_in_the_percentiles(tmp_path: Path, calls: CallSlice) -> None:
    """A server that stalls is charged for all that was due meanwhile; warm lines stay."""
    async with lab(tmp_path) as bench:
        stalled = asyncio.get_running_loop()

        def stall() -> None:
            stalled.call_soon_threadsafe(time.sleep, 0.5)

        pace = Arrivals(steps=((CALLS / 1.2, 1.0),))
        books = (
            await bench.measure(
                calls.part(0, pace.count),
                pace,
                Warm(connections=2),
                (Event(at_s=0.2, name="stall", act=stall),),
            )
        ).first
        assert books.ended == pace.count
        assert books.latencies.at(100) >= 400
        assert books.latencies.at(75) >= 100
        assert len(set(bench.server.peers)) == 2


async def test_agents_come_through_a_server_that_refuses(tmp_path: Path, calls: CallSlice) -> None:
    """Refused agents ask again until they have it; attempts and identities are told apart."""
    async with lab(tmp_path) as bench:
        bench.server.statuses = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many")] * 5
        pace = Population(steps=((4, 9.0),), think_s=0.01, drain_s=1.0, once=True)
        books = (await bench.measure(calls.part(0, 8), pace)).first
        data: dict[str, Any] = books.as_data()
        assert (books.right, data["statuses"]) == (4, {"OK": 4})
        assert data["attempts"] == {"RESOURCE_EXHAUSTED": 5, "OK": 4}
        assert data["messages"] == {"too many": 5}
        assert books.longest_ns > 80e6
