"""A key store for tests: real keys in memory behind the seam of `signing.keyed`.

Tests change its world: take it away, swap its keys, let single messages fail,
hold its answers back.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meshsigner.errors import BackendUnavailable, ConfigurationError, MeshsignerError
from meshsigner.model import Health
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.local_key import local_key
from tests.fakes.authority import CaKey


@dataclass
class FakeKey:
    """Signs with a key in memory, as its store tells.

    Attributes:
        key: The private key.
        store: Whose world it lives in.
    """

    key: CaKey
    store: "FakeKeyStore"

    async def sign_batch(self, messages: Sequence[bytes]) -> Sequence[bytes | MeshsignerError]:
        """Sign all, but for those whose place the store lets fail."""
        self.store.calls.append(len(messages))
        await self.store.gate.wait()
        if self.store.away:
            raise BackendUnavailable("the store is away")
        signer = local_key(self.key)
        signed = [
            self.store.faults.get(place) or signer.sign(message)
            for place, message in enumerate(messages)
        ]
        return signed[: len(signed) - self.store.drops]


@dataclass
class FakeKeyStore:
    """Keeps keys in memory.

    Attributes:
        keys: Those that it has.
        away: Nothing answers.
        faults: Errors of single messages by their place.
        drops: How many answers are missing at the end.
        calls: Messages of each call.
        gate: Answers wait for it; open at first.
        started: `start` was called.
        closed: `aclose` was called.
    """

    keys: list[CaKey]
    away: bool = False
    faults: dict[int, MeshsignerError] = field(default_factory=dict)
    drops: int = 0
    calls: list[int] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    started: bool = False
    closed: bool = False

    def __post_init__(self) -> None:
        """Open the gate."""
        self.gate.set()

    async def start(self) -> None:
        """Note it."""
        self.started = True

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True

    async def find_key(self, public_key: CaPublicKey) -> FakeKey:
        """Find a key by its public half."""
        if self.away:
            raise BackendUnavailable("the store is away")
        for key in self.keys:
            if key.public_key() == public_key:
                return FakeKey(key, self)
        raise ConfigurationError("key: is not the CA's; expected the CA's; configure it")

    def health(self, now: datetime) -> Health:
        """Say whether it is there."""
        del now
        return Health(name="store", ready=not self.away, detail="away" if self.away else "open")
