"""What can be plugged in: the protocols between the pipeline and its adapters.

Each is declared for its one user in the pipeline, with one or two methods and
the errors they may raise. Implementations live in `authn`, `signing`, `trust`
and `inventory`; fakes for tests in tests/fakes.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from meshsigner.model import Ask, Caller, Chain, Credentials, Health, Issuer, Order, Record

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
            authenticator, audiences, SHA-256 of the token), (cluster, key id).
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


class KeySigner(Protocol):
    """A CA key, wherever it is kept: signs bytes, knows no X.509."""

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


class LocalSigner(Protocol):
    """Signs one order at once, inside a turn; the KeySigner seam ends here."""

    name: str

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer that signs now.

        Raises:
            NotReady: There is none, or it has expired.
        """
        ...

    def sign(self, order: Order) -> Chain:
        """Sign an order.

        Raises:
            BackendUnavailable: The key cannot be used now.
            NotReady: The order's issuer has been replaced.
        """
        ...

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now."""
        ...


class CertificateSigner(Protocol):
    """A remote CA that is handed an order and builds the X.509 itself.

    It may silently change what was asked: `verify.check_issued` sees every
    answer before it leaves.
    """

    name: str

    async def sign(self, order: Order, csr_der: bytes, deadline: datetime) -> Chain:
        """Have an order signed.

        Args:
            order: What to certify.
            csr_der: The caller's CSR.
            deadline: After this nobody waits for the answer.

        Raises:
            BackendUnavailable: No answer; says whether one may have been issued.
            BackendRefused: The CA said no to this order.
            Overloaded: The CA's own throttle.
        """
        ...


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
