"""What a refusal costs: server CPU of a call that gets no certificate, kind by kind.

Overload is bounded by arithmetic: a server that spends c on a certificate and r on a
refusal, and is offered more than it can do, does (1 - r * refused) / c. So each kind of
refusal is measured alone, over warm connections and with a new connection for each
call. Bounds are met by servers whose configuration sets them low; what those grant
meanwhile they grant one at a time, so it is taken off at the price that a certificate
has alone, in the same round.
"""

import asyncio
import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa
from rich.table import Table

from benchmarks.load.calls import Call
from benchmarks.load.client import Connection, dial
from benchmarks.load.headers import token_block
from benchmarks.load.messages import encode_request
from benchmarks.load.report import machine, spread, table
from benchmarks.load.workload import ASKED_LIFETIME_S
from benchmarks.micro.ground import DRIVER_CORE, Ground
from benchmarks.peers.servers import Peer, meshsigner
from benchmarks.peers.stretch import Stretch, Way, closed, run_stretch
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.processes import on_core

GRANTED: Final = "none: a certificate"
ALONE: Final = "none, one at a time"
_IN_FLIGHT: Final = 16
_PEM_BEGIN: Final = b"-----BEGIN CERTIFICATE REQUEST-----\n"
_PEM_END: Final = b"\n-----END CERTIFICATE REQUEST-----"
_PEM_LINE: Final = 64
_HELD: Final = 4
"""Connections that fill the place where their number is the bound."""

MakeCalls = Callable[[Ground, int], list[Call]]


def fine(ground: Ground, number: int) -> list[Call]:
    """Return calls that deserve a certificate."""
    return ground.calls(number)


def without_token(ground: Ground, number: int) -> list[Call]:
    """Return calls with no credential at all."""
    return [replace(call, token_block=b"") for call in ground.calls(number)]


def garbage_token(ground: Ground, number: int) -> list[Call]:
    """Return calls whose token is three segments of nothing, each another one."""
    return [
        replace(call, token_block=token_block(f"e30.{index:032x}.AAAA"))
        for index, call in enumerate(ground.calls(number))
    ]


def forged_token(ground: Ground, number: int) -> list[Call]:
    """Return calls whose token names the right key and is signed with another."""
    forger = replace(ground.tokens, key=rsa.generate_private_key(65537, 2048))
    return replace(ground, tokens=forger).calls(number)


def forged_token_again(ground: Ground, number: int) -> list[Call]:
    """Return calls that all have the same forged token."""
    first = forged_token(ground, 1)[0]
    return [replace(call, token_block=first.token_block) for call in ground.calls(number)]


def garbage_csr(ground: Ground, number: int) -> list[Call]:
    """Return calls that ask with a CSR that nobody can read."""
    body = encode_request(b"no CSR", ASKED_LIFETIME_S, {"CertSigner": ""})
    return [replace(call, body=body) for call in ground.calls(number)]


def forged_csr(ground: Ground, number: int) -> list[Call]:
    """Return calls whose CSR's signature is wrong by its last bit."""
    return [replace(call, body=_with_wrong_signature(call.body)) for call in ground.calls(number)]


def _with_wrong_signature(body: bytes) -> bytes:
    """Return a request whose CSR, which ends with its signature, ends otherwise."""
    at, end = body.index(_PEM_BEGIN) + len(_PEM_BEGIN), body.index(_PEM_END)
    der = bytearray(base64.b64decode(body[at:end]))
    der[-1] ^= 1
    text = base64.b64encode(der)
    lines = [text[n : n + _PEM_LINE] for n in range(0, len(text), _PEM_LINE)]
    return body[:at] + b"\n".join(lines) + body[end:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of refusal and how to get it.

    Args:
        name: For the report.
        make: Makes its calls.
        limits: What the server's section `limits` says.
        ways: How calls reach the server.
        held: Connections that stand meanwhile and do nothing.
        rude: Whether the client opens more streams than the server allows.
        in_flight: Calls under way at any time.
    """

    name: str
    make: MakeCalls = fine
    limits: dict[str, Any] = field(default_factory=dict)
    ways: tuple[Way, ...] = ("warm", "churn")
    held: int = 0
    rude: bool = False
    in_flight: int = _IN_FLIGHT


KINDS: Final = (
    Kind(name=GRANTED),
    Kind(name=ALONE, in_flight=1),
    Kind(name="no token", make=without_token),
    Kind(name="garbage for a token", make=garbage_token),
    Kind(name="forged token", make=forged_token),
    Kind(name="the same forged token again", make=forged_token_again),
    Kind(name="garbage for a CSR", make=garbage_csr),
    Kind(name="CSR with a forged signature", make=forged_csr),
    Kind(name="order queue full", limits={"queue_total": 1}),
    Kind(name="gather full", limits={"waiting": 1}),
    Kind(name="calls in flight", limits={"calls_in_flight": 1}),
    Kind(
        name="calls in flight on a connection", limits={"calls_per_connection": 1}, ways=("warm",)
    ),
    Kind(name="streams", limits={"streams_per_connection": 1}, ways=("warm",), rude=True),
    Kind(name="connections", limits={"connections": _HELD}, ways=("churn",), held=_HELD),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is sent in one stretch, and how."""

    way: Way
    calls: list[Call]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One kind's stretch.

    Args:
        kind: Its name.
        way: How calls reached the server.
        stretch: What was measured.
    """

    kind: str
    way: Way
    stretch: Stretch

    @property
    def granted(self) -> int:
        """Calls that got a certificate after all."""
        return self.stretch.audit.right

    @property
    def refused(self) -> int:
        """Calls that got none."""
        return self.stretch.calls - self.granted


def run(rounds: int, calls: int, work: Path, cache: Path, on_stage: OnStage) -> list[Sample]:
    """Measure every kind.

    Args:
        rounds: How often.
        calls: Calls of a kind in a round; half as many with a new connection each.
        work: Directory for the servers, on a real disk.
        cache: Where the callers' keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start.
    """
    ground = Ground.prepare(work, cache, on_stage)
    step = on_stage("stretches", (rounds + 1) * sum(len(kind.ways) for kind in KINDS))
    samples = []
    with ExitStack() as stack:
        peers = _start(stack, ground)
        stack.enter_context(on_core(DRIVER_CORE))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for number in range(-1, rounds):  # the first warms up and is not counted
            for kind, way in _cases():
                size = calls if way == "warm" else calls // 2
                case = Case(way=way, calls=kind.make(ground, size))
                found = runner.run(_measure(peers[str(kind.limits)], kind, case, number))
                samples += [found] if number >= 0 else []
                step()
    return samples


def _cases() -> Iterator[tuple[Kind, Way]]:
    ways: tuple[Way, ...] = ("warm", "churn")
    for way in ways:
        for kind in KINDS:
            if way in kind.ways:
                yield kind, way


def _start(stack: ExitStack, ground: Ground) -> dict[str, Peer]:
    """Start a server for each set of bounds and return them by it."""
    peers: dict[str, Peer] = {}
    for kind in KINDS:
        key = str(kind.limits)
        if key not in peers:
            place = ground.place(f"server-{len(peers)}")
            settings = {"limits": kind.limits}
            peers[key] = stack.enter_context(meshsigner(place, settings=settings, name=key))
    return peers


async def _measure(peer: Peer, kind: Kind, case: Case, number: int) -> Sample:
    held = await _hold(peer, kind.held)
    stretch = await run_stretch(
        peer,
        case.way,
        closed(case.calls, kind.in_flight),
        case=kind.name,
        round_=number,
        rude=kind.rude,
    )
    for connection in held:
        connection.close()
    return Sample(kind=kind.name, way=case.way, stretch=stretch)


async def _hold(peer: Peer, number: int) -> list[Connection]:
    tls = peer.server.tls_context()
    return [await dial(peer.server, tls) for _ in range(number)]


def cost_us(samples: Sequence[Sample], kind: str, way: Way) -> list[float]:
    """Return the server CPU of one refusal, for each round; of a certificate where all are."""
    alone = {s.stretch.round: s.stretch.cpu_us for s in samples if (s.kind, s.way) == (ALONE, way)}
    return [
        (s.stretch.cpu_us * s.stretch.calls - s.granted * alone[s.stretch.round]) / s.refused
        if s.refused
        else s.stretch.cpu_us
        for s in samples
        if (s.kind, s.way) == (kind, way)
    ]


def as_data(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    return {
        "scenario": "refusals",
        "machine": machine(),
        "figures": {
            f"{kind.name}, {way}": cost_us(samples, kind.name, way) for kind, way in _cases()
        },
        "faults": [text for s in samples for text in s.stretch.audit.wrong] + _missing(samples),
        "samples": [asdict(sample) for sample in samples],
    }


def _missing(samples: Sequence[Sample]) -> list[str]:
    """Name stretches in which nothing was refused, or something that deserved a certificate."""
    return [
        f"{s.kind}, {s.way}: {s.refused} of {s.stretch.calls} refused"
        for s in samples
        if (s.refused > 0) == (s.kind in {GRANTED, ALONE})
    ]


def figures(samples: Sequence[Sample]) -> Table:
    """Return the price of each kind, over warm connections and with a new one each."""
    columns = ("refused for", "warm us", "new connection us", "status", "refused", "of calls")
    rows = [_row(samples, kind) for kind in KINDS]
    return table("Server CPU of a refused call, medians (low to high)", columns, rows)


def _row(samples: Sequence[Sample], kind: Kind) -> tuple[str, ...]:
    ones = [sample for sample in samples if sample.kind == kind.name]
    statuses = {name for one in ones for name in one.stretch.audit.statuses} - {"OK"}
    return (
        kind.name,
        _cell(cost_us(samples, kind.name, "warm")),
        _cell(cost_us(samples, kind.name, "churn")),
        ", ".join(sorted(statuses)),
        f"{sum(one.refused for one in ones):,}",
        f"{sum(one.stretch.calls for one in ones):,}",
    )


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    one = spread(values)
    return f"{one.median:,.0f} ({one.low:,.0f} to {one.high:,.0f})"
