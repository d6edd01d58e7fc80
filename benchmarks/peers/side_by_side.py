"""meshsigner beside Istio's own CA: the same keys, tokens, calls and core, in turns.

For each kind of CA key, CSR and way of connecting both servers get the very same calls
one after the other, in each round in the other order. Besides, Istio's CA as it is set
up by default (RSA-2048 for the CA and for the serving certificate) gets what meshsigner
gets with its P-256 keys. All servers stand during the whole run, on the same core; those
that are not asked do nothing.
"""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.load.calls import Call
from benchmarks.load.driver import OnProgress, ignore_progress
from benchmarks.load.keys import Key, KeyType, key_pool
from benchmarks.load.tokens import TokenIssuer
from benchmarks.load.workload import Recipe
from benchmarks.peers.authority import (
    TRUST_DOMAIN,
    make_authority,
    make_token_issuer,
)
from benchmarks.peers.servers import Peer, Place, istio_ca, meshsigner
from benchmarks.peers.stretch import Stretch, Way, closed, run_stretch
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.processes import on_core

SERVER_CORE: Final = 0
DRIVER_CORE: Final = 1
KEY_TYPES: Final[tuple[KeyType, ...]] = ("p256", "rsa2048")
WAYS: Final[tuple[Way, ...]] = ("warm", "churn")
DEFAULTS: Final = "default"
"""Name of the pair in which Istio's CA has its default keys."""

_RSA_KEYS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersPlan:
    """How much to measure.

    Args:
        rounds: Rounds of all cases.
        calls: Calls of a case to each server, in a round.
        in_flight: How many are under way at any time.
    """

    rounds: int = 5
    calls: int = 1_500
    in_flight: int = 16

    @property
    def warm_up(self) -> int:
        """Calls of a case that are not counted, before the first round."""
        return self.calls // 4

    @property
    def steps(self) -> int:
        """How many stretches there are, the warming up left out."""
        return self.rounds * 2 * len(tuple(cases()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What both servers are asked.

    Args:
        ca: Kind of the CA key, or DEFAULTS.
        csr: Kind of the callers' keys.
        way: How calls reach the server.
    """

    ca: str
    csr: KeyType
    way: Way

    def __str__(self) -> str:
        """Return the case in words."""
        return f"{self.way}, {self.csr} CSR, {self.ca} CA"


def cases() -> Iterator[Case]:
    """Yield all cases."""
    for way in WAYS:
        for ca in KEY_TYPES:
            for csr in KEY_TYPES:
                yield Case(ca=ca, csr=csr, way=way)
        yield Case(ca=DEFAULTS, csr="rsa2048", way=way)


def run(plan: PeersPlan, binary: Path, work: Path, cache: Path, on_stage: OnStage) -> list[Stretch]:
    """Measure everything.

    Args:
        plan: How much.
        binary: Istio's CA, built.
        work: Directory for the servers' files, on a real disk.
        cache: Where the callers' RSA keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start.
    """
    tokens = make_token_issuer(_made(work) / "jwks.json")
    keys = _keys(plan, cache, on_stage)
    with ExitStack() as stack:
        peers = _start(stack, binary, work)
        stack.enter_context(on_core(DRIVER_CORE))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        stretches = []
        step = on_stage("stretches", plan.steps)
        for number in range(-1, plan.rounds):  # the first warms up and is not counted
            size = plan.calls if number >= 0 else plan.warm_up
            calls = _calls(size, tokens, keys)
            found = runner.run(_round(plan, peers, calls, number, step))
            stretches += found if number >= 0 else []
    return stretches


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _keys(plan: PeersPlan, cache: Path, on_stage: OnStage) -> dict[KeyType, list[Key]]:
    sizes: dict[KeyType, int] = {"rsa2048": _RSA_KEYS, "p256": plan.calls}
    return {
        kind: key_pool(kind, size, cache, on_stage(f"{kind} keys", size))
        for kind, size in sizes.items()
    }


def _start(stack: ExitStack, binary: Path, work: Path) -> dict[str, tuple[Peer, Peer]]:
    """Start all servers and return the pairs by the kind of their CA key."""
    pairs: dict[str, tuple[Peer, Peer]] = {}
    jwks = work / "jwks.json"
    for kind in KEY_TYPES:
        authority = make_authority(work / f"ca-{kind}", ca_key=kind, serving_key="p256")
        ours = Place(work=work / f"meshsigner-{kind}", authority=authority, jwks=jwks)
        theirs = Place(work=work / f"istio-{kind}", authority=authority, jwks=jwks)
        pairs[kind] = (
            stack.enter_context(meshsigner(ours)),
            stack.enter_context(istio_ca(binary, theirs)),
        )
    default = make_authority(work / "ca-default", ca_key="rsa2048", serving_key="rsa2048")
    place = Place(work=work / "istio-default", authority=default, jwks=jwks)
    pairs[DEFAULTS] = (pairs["p256"][0], stack.enter_context(istio_ca(binary, place)))
    return pairs


Calls = dict[tuple[KeyType, Way, bool], list[Call]]
"""By CSR, way, and whether for the default pair, whose first server is asked twice."""


def _calls(size: int, tokens: TokenIssuer, keys: dict[KeyType, list[Key]]) -> Calls:
    """Make one round's calls: the pairs get the same ones, but no server any of them twice."""
    wanted = {(case.csr, case.way, case.ca == DEFAULTS) for case in cases()}
    return {
        key: Recipe(
            tokens=tokens,
            keys=keys[key[0]],
            trust_domain=TRUST_DOMAIN,
            prefix=f"peer-{secrets.token_hex(4)}",
        ).make_calls(size, ignore_progress)
        for key in sorted(wanted)
    }


async def _round(
    plan: PeersPlan,
    peers: dict[str, tuple[Peer, Peer]],
    calls: Calls,
    number: int,
    step: OnProgress,
) -> list[Stretch]:
    stretches = []
    for case in cases():
        batch = calls[case.csr, case.way, case.ca == DEFAULTS]
        for peer in peers[case.ca][:: 1 if number % 2 else -1]:
            drive = closed(batch, plan.in_flight)
            stretches.append(
                await run_stretch(peer, case.way, drive, case=str(case), round_=number)
            )
            if number >= 0:
                step()
    return stretches
