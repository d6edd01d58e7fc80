"""Fakes behind the authenticators: a clock, a source of keys, an API server without a wire."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from meshsigner.authn.jwt import JwtAuthenticator
from meshsigner.authn.key_sets import KeyOwners
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.authn.tokens import TokenRules
from meshsigner.errors import BackendUnavailable
from meshsigner.spiffe import TrustDomain
from tests.fakes.kubernetes_api import refused
from tests.fakes.tokens import AUDIENCE, ISSUER, NOW, jwk, jwks, rsa_key

TRUST_DOMAIN = TrustDomain.parse("cluster.local")
RULES = TokenRules(audiences=(AUDIENCE,), issuer=ISSUER)


@dataclass(slots=True)
class FakeClock:
    """A clock that a test moves.

    Attributes:
        now: What it shows.
    """

    now: datetime = NOW

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass(slots=True, kw_only=True)
class FakeKeySource:
    """Holds a JWK set in memory.

    Attributes:
        data: The set.
        fault: Raised instead of it while set.
        gate: While cleared, reads wait; set by default.
        fetches: How often it was read.
        closed: Whether it was closed.
        where: Name.
        every_s: How often it wants to be read, seconds.
    """

    data: bytes = field(default_factory=lambda: jwks(jwk(rsa_key())))
    fault: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fetches: int = 0
    closed: bool = False
    where: str = "memory"
    every_s: float = 300.0

    def __post_init__(self) -> None:
        """Open the gate."""
        self.gate.set()

    async def fetch(self) -> bytes:
        """Return the set or raise the fault."""
        self.fetches += 1
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return self.data

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


@dataclass(slots=True, kw_only=True)
class FakeReviewer:
    """Reviews tokens in memory.

    Attributes:
        accounts: Status for each token; others are refused.
        fault: Raised instead while set.
        unready: Raised when it is asked whether it is ready, while set.
        gate: While cleared, reviews wait; set by default.
        asked: Token and audiences of each review.
        in_flight: Reviews that are being answered now.
        most_in_flight: The most there ever were at once.
        closed: Whether it was closed.
    """

    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    fault: Exception | None = None
    unready: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        """Open the gate."""
        self.gate.set()

    async def create_token_review(self, token: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Return the status or raise the fault."""
        self.asked.append((token, tuple(audiences)))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        if self.fault is not None:
            raise self.fault
        status: Mapping[str, Any] = self.accounts.get(token, refused())
        return status

    async def check_ready(self) -> None:
        """Say that it is ready, or raise what is set."""
        if self.unready is not None:
            raise self.unready

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True


def make_public_keys(
    source: FakeKeySource,
    clock: FakeClock,
    cluster: str = "Kubernetes",
    owners: KeyOwners | None = None,
) -> PublicKeys:
    """Return the keys of a source."""
    return PublicKeys(
        cluster=cluster,
        source=source,
        owners=owners or KeyOwners(),
        clock=clock,
    )


def make_jwt(
    source: FakeKeySource,
    clock: FakeClock,
    cluster: str = "Kubernetes",
    owners: KeyOwners | None = None,
    rules: TokenRules = RULES,
) -> JwtAuthenticator:
    """Return an authenticator over a source."""
    return JwtAuthenticator(
        cluster=cluster,
        trust_domain=TRUST_DOMAIN,
        rules=rules,
        keys=make_public_keys(source, clock, cluster, owners),
    )


def away() -> BackendUnavailable:
    """Return what a source raises that nobody answers for."""
    return BackendUnavailable("connection refused")
