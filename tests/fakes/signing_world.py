"""An issuance with backends of a test's choice and everything else faked around it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.issuance import Issuance, IssuanceLimits
from meshsigner.model import Chain
from meshsigner.observe.metrics import Metrics
from meshsigner.orders import QueueLimits
from meshsigner.policy import Policy
from meshsigner.ports import Signer
from meshsigner.recorder import Recorder
from tests.fakes.pipeline import (
    NOW,
    FakeAuthenticator,
    FakeCall,
    MemoryInventory,
    make_ask,
    make_csr,
    make_policy,
)

KEY = ec.generate_private_key(ec.SECP256R1())
CSR = make_csr(KEY)


class SigningWorld:
    """Everything around some backends.

    Attributes:
        inventory: Where rows and intents go.
        issuance: The pipeline.
        policy: The rules; tests change them.
        metrics: Figures.
        now: What the clock shows.
    """

    def __init__(
        self,
        *backends: Signer,
        inventory: MemoryInventory | None = None,
        limits: IssuanceLimits | None = None,
    ) -> None:
        self.inventory = inventory or MemoryInventory()
        self.policy: Policy = make_policy()
        self.metrics = Metrics()
        self.now: datetime = NOW
        self.recorder = Recorder(self.inventory, self.metrics)
        self.authenticator = FakeAuthenticator()
        self.issuance = Issuance(
            authenticator=self.authenticator,
            signers=backends,
            recorder=self.recorder,
            policy=lambda: self.policy,
            metrics=self.metrics,
            clock=lambda: self.now,
            limits=limits or IssuanceLimits(queue=QueueLimits(wait_s=60)),
        )
        self.calls: list[FakeCall] = []

    async def issue(
        self, token: str = "foo/bar/p", csr_pem: bytes = CSR, *, lives_s: float = 10.0
    ) -> Chain:
        """Make one call."""
        deadline_s = asyncio.get_running_loop().time() + lives_s
        call = make_ask(token, csr_pem, deadline_s=deadline_s)
        self.calls.append(call)
        return await self.issuance.issue(call)

    def start(
        self, token: str = "foo/bar/p", csr_pem: bytes = CSR, *, lives_s: float = 10.0
    ) -> asyncio.Task[Chain]:
        """Start a call."""
        return asyncio.create_task(self.issue(token, csr_pem, lives_s=lives_s))

    async def issue_all(
        self, tokens: Sequence[str], csr_pem: bytes = CSR, *, lives_s: float = 10.0
    ) -> list[Chain | BaseException]:
        """Make several calls at once."""
        calls = (self.issue(token, csr_pem, lives_s=lives_s) for token in tokens)
        return await asyncio.gather(*calls, return_exceptions=True)

    def sample(self, name: str, **labels: str) -> float:
        """Return a figure, 0 when there is none."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def signing_world(
    *backends: Signer,
    inventory: MemoryInventory | None = None,
    limits: IssuanceLimits | None = None,
) -> AsyncIterator[SigningWorld]:
    """Run an issuance for the time of a test."""
    world = SigningWorld(*backends, inventory=inventory, limits=limits)
    await world.recorder.start()
    try:
        yield world
    finally:
        if isinstance(world.inventory, MemoryInventory):
            world.inventory.gate.set()
        await world.issuance.drain(0)
        await world.recorder.close()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


def names_of(chain: Chain) -> tuple[str, object]:
    """Return whom a chain's leaf names, and its key."""
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.UniformResourceIdentifier)[0], leaf.public_key()
