"""What the one-core scenario measures with: its plan, and the calls made before it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load.calls import Call
from benchmarks.load.driver import OnProgress
from benchmarks.load.keys import KeyType, key_pool
from benchmarks.load.tokens import TokenIssuer
from benchmarks.load.workload import Recipe

TRUST_DOMAIN: Final = "cluster.local"
KEY_TYPES: Final[tuple[KeyType, ...]] = ("rsa2048", "p256")

OnStage = Callable[[str, int], OnProgress]
"""Called with a stage's name and size; returns what to call for each step of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much to measure.

    Args:
        rounds: Rounds of empty, RSA and P-256 calls.
        calls: Calls of each kind in a round.
        warm_up: Calls of each kind before the first round; not counted.
        lone: Calls with nothing else under way.
        in_flight: Calls under way at any time in the rounds.
        connections: Warm connections that carry them.
        rsa_keys: Size of the RSA key pool.
    """

    rounds: int
    calls: int
    warm_up: int
    lone: int
    in_flight: int = 16
    connections: int = 4
    rsa_keys: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Calls made before the run; no two of them share an identity or a token.

    Args:
        first: The call whose answer the empty server repeats.
        warm_up: Calls of each kind that are not counted.
        rounds: Calls of each kind for each round.
        lone: Calls to be sent one at a time.
    """

    first: list[Call]
    warm_up: dict[KeyType, list[Call]]
    rounds: list[dict[KeyType, list[Call]]]
    lone: list[Call]


def prepare(plan: Plan, tokens: TokenIssuer, cache: Path, on_stage: OnStage) -> Material:
    """Make all calls of a plan.

    Args:
        plan: How many.
        tokens: Issuer that the server under test trusts.
        cache: Where RSA keys stay between runs.
        on_stage: Told what goes on.
    """
    sizes: dict[KeyType, int] = {"rsa2048": plan.rsa_keys, "p256": plan.calls}
    keys = {
        kind: key_pool(kind, size, cache, on_stage(f"{kind} keys", size))
        for kind, size in sizes.items()
    }
    total = 1 + 2 * (plan.warm_up + plan.rounds * plan.calls) + plan.lone
    made = on_stage("tokens and CSRs", total)

    def make(kind: KeyType, number: int) -> list[Call]:
        prefix = f"{kind}-{secrets.token_hex(4)}"
        recipe = Recipe(tokens=tokens, keys=keys[kind], trust_domain=TRUST_DOMAIN, prefix=prefix)
        return recipe.make_calls(number, made)

    return Material(
        first=make("rsa2048", 1),
        warm_up={kind: make(kind, plan.warm_up) for kind in KEY_TYPES},
        rounds=[{kind: make(kind, plan.calls) for kind in KEY_TYPES} for _ in range(plan.rounds)],
        lone=make("rsa2048", plan.lone),
    )
