"""What can be plugged in: the protocols between the pipeline and its adapters.

Each is declared for its one user in the pipeline, with one or two methods and
the errors they may raise. Implementations live in `authn`, `signing`, `trust`
and `inventory`; fakes for tests in tests/fakes.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeGuard, TypeVar

from cryptography import x509

from meshsigner.errors import MeshsignerError
from meshsigner.model import (
    Ask,
    BackendLimits,
    Caller,
    Capabilities,
    Chain,
    Credentials,
    Errand,
    Health,
    Intent,
    Issuer,
    Order,
    Record,
)
from meshsigner.spiffe import WorkloadId

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Incoming(Protocol[Answer_co]):
    """A call as its edge holds it: read and answered inside a turn.

    The same code costs two to four times as much between the calls of an RPC
    shell as over all members of a turn (docs/performance.md), so the edge's own
    share is done there too.

    Attributes:
        deadline_s: Nobody waits longer, in seconds of the event loop's clock.
        line: Fields of the call's one log line; each stage adds what it learnt.
        size_bytes: What the call holds in memory.
    """

    deadline_s: float
    line: dict[str, object]
    size_bytes: int

    def read(self) -> Ask:
        """Read what the call says.

        Raises:
            Refusal: It says nothing that can be read.
        """
        ...

    def render(self, chain: Chain) -> Answer_co:
        """Turn the chain into the edge's own answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parked:
    """A stage cannot decide yet: something must be awaited first.

    Requests that park under an equal key share one call of `fetch`; then each
    is asked once more.

    Attributes:
        key: What is awaited, never shared between clusters: (cluster,
            authenticator, audiences, SHA-256 of the token), (cluster, key id),
            (cluster, node, number of the look).
        fetch: Makes the awaited thing known to the one who parked. May raise
            `ServiceFault` or `Overloaded`: our own fault, never the caller's.
    """

    key: Hashable
    fetch: Callable[[], Awaitable[None]]


class Authenticator(Protocol):
    """Proves who calls, from a snapshot of what is known; never awaits."""

    def identify(self, credentials: Credentials, now: datetime) -> Caller | Parked:
        """Prove the caller, or say what must be fetched first.

        Args:
            credentials: What the caller showed.
            now: The turn's time.

        Raises:
            Unauthenticated: The credential is absent, bad or refused.
            ServiceFault: It cannot be judged for a fault of ours.
        """
        ...

    def health(self) -> Sequence[Health]:
        """Say for each part whether it can prove anybody now."""
        ...


class NodeAuthorizer(Protocol):
    """Decides who may ask for another's certificate, from a snapshot of pods; never awaits."""

    def authorize(
        self, caller: Caller, impersonated: str, now: datetime, *, looked: bool
    ) -> WorkloadId | Parked:
        """Let a node's agent act for a workload of its node, or say what must be looked at first.

        Args:
            caller: The agent, proven.
            impersonated: Whom it asks for, as it wrote it.
            now: The turn's time.
            looked: True when this call has parked here already: it is decided now.

        Returns:
            The identity to certify.

        Raises:
            ImpersonationRefused: It may not.
            ServiceFault: It cannot be judged for a fault of ours.
        """
        ...

    def health(self) -> Sequence[Health]:
        """Say for each cluster whether its pods are known."""
        ...


class KeySigner(Protocol):
    """A CA key in this process's memory: signs bytes at once, knows no X.509."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message with the CA key and the issuer's algorithm.

        Args:
            message: The DER of a TBSCertificate.

        Returns:
            The signature as RFC 5280 4.1.1.3 carries it (ECDSA: DER).

        Raises:
            BackendUnavailable: The key cannot be used now.
        """
        ...


class BatchKeySigner(Protocol):
    """A CA key kept elsewhere (an HSM, a key service): signs several messages a call."""

    async def sign_batch(self, messages: Sequence[bytes]) -> Sequence[bytes | MeshsignerError]:
        """Sign messages with the CA key and the issuer's algorithm.

        Args:
            messages: DER of one TBSCertificate each, at most as many as the
                backend's limits say.

        Returns:
            For each message, in its place: the signature as RFC 5280 4.1.1.3
            carries it (ECDSA: DER), or the error of this message alone.

        Raises:
            BackendUnavailable: The key cannot be used now, for none of them.
            Overloaded: The service's own throttle.
        """
        ...


class Backend(Protocol):
    """What signs, wherever it is: the part that is common to local and remote ones.

    Attributes:
        name: Its name in configuration, logs, metrics and inventory.
        capabilities: What it can do; does not change.
    """

    name: str
    capabilities: Capabilities

    async def start(self) -> None:
        """Reach it, log in, learn issuer and roots; keep them fresh from then on.

        A backend that is away for now is no error: `health` says so, and it is
        reached once it is back.

        Raises:
            ConfigurationError: As it is configured it can never work.
        """
        ...

    async def aclose(self) -> None:
        """End what `start` began."""
        ...

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer that signs now; the same object until it changes.

        Raises:
            NotReady: There is none, it has expired, or it is not known yet.
        """
        ...

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends: from now on its issuers' bundles hold them too.

        Args:
            roots: Roots of the whole mesh; its own stay first in its bundle.
        """
        ...

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now; from memory, never by asking it."""
        ...


class LocalSigner(Backend, Protocol):
    """Signs one order at once, inside a turn."""

    def sign(self, order: Order) -> Chain:
        """Sign an order.

        Raises:
            BackendUnavailable: The key cannot be used now.
            NotReady: The order's issuer has been replaced.
        """
        ...


class RemoteSigner(Backend, Protocol):
    """Signs orders by calls that are awaited; a dispatcher stands in front of it.

    Two kinds: a remote CA that builds the X.509 itself, and may silently change
    what was asked (`Leeway` says what is tolerated; `verify` sees every answer
    before it leaves); and a key elsewhere, for which `signing.keyed` builds the
    X.509 here.

    Attributes:
        limits: What it stands.
    """

    limits: BackendLimits

    async def sign(
        self, errands: Sequence[Errand], deadline_s: float
    ) -> Sequence[Chain | MeshsignerError]:
        """Have orders signed by one call.

        Args:
            errands: At most `limits.batch` of them.
            deadline_s: After this nobody waits, in seconds of the event loop's clock.

        Returns:
            For each errand, in its place, its chain or the error of it alone.

        Raises:
            BackendUnavailable: No answer; says whether any may have been issued.
            BackendRefused: No to all of them.
            Overloaded: Its own throttle; `retry_after_s` when it says how long.
        """
        ...

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Look for what an earlier call with this errand's token has issued.

        Only called where `capabilities.finds` is true.

        Returns:
            The chain, or None when there is certainly none.

        Raises:
            BackendUnavailable: It could not be asked.
        """
        ...


Signer = LocalSigner | RemoteSigner


def is_remote(signer: Signer) -> TypeGuard[RemoteSigner]:
    """Tell a backend whose `sign` is awaited: by its limits, which a local one does not have."""
    return hasattr(signer, "limits")


class Inventory(Protocol):
    """Where issued certificates are written down; called in the recorder's thread only."""

    def write(self, records: Sequence[Record], undelivered: Sequence[str]) -> None:
        """Store rows in one commit; on return they survive a crash of the machine.

        Args:
            records: New rows.
            undelivered: Serials, stored before, whose caller was gone when the
                answer was ready.

        Raises:
            RecordFailed: Nothing of this call was stored.
        """
        ...

    def note(self, intents: Sequence[Intent], settled: Sequence[str]) -> None:
        """Store in one commit what a remote CA is about to be asked, and what is settled.

        Args:
            intents: Written before the call that they are about.
            settled: Tokens whose outcome is known: recorded, or certainly not issued.

        Raises:
            RecordFailed: Nothing of this call was stored.
        """
        ...

    def open_intents(self) -> Sequence[Intent]:
        """Return the intents without outcome, oldest first; what a crash left behind.

        Raises:
            RecordFailed: They cannot be read.
        """
        ...

    def probe(self) -> None:
        """Prove that a row could be written now.

        Raises:
            RecordFailed: It could not; the text says why and what to do.
        """
        ...

    def health(self) -> Health:
        """Say whether rows can be written and how full the store is.

        As of the last use; the one method that any thread may call.
        """
        ...

    def close(self) -> None:
        """Release the store."""
        ...
