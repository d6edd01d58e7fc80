"""What one costly CA has been asked for and nobody knows the outcome of.

A certificate of a CA with a quota costs, also when its answer was lost. So each
call's intent is committed before the call, under the token that names the
attempt, and settled once the outcome is known. Whoever asks again for the same
identity with the same CSR gets the same attempt: looked up where the CA can
tell, repeated with the same token where that issues nothing new, refused
where neither can be had, for as long as the lost certificate would live.

Source: docs/ARCHITECTURE.md, "Backends"; docs/adr/0035.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from meshsigner.errors import MeshsignerError, Overloaded, RecordFailed
from meshsigner.model import Errand, Intent, Order, Record
from meshsigner.recorder import make_draft

Note = Callable[[Sequence[Intent]], Awaitable[None]]
_Subject = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An errand that may be sent.

    Attributes:
        errand: With its token.
        repeated: True when an earlier call with this token has no known outcome.
    """

    errand: Errand
    repeated: bool


class Intents:
    """The open intents of one backend.

    Args:
        backend: Its name.
        note: Commits intents before their call; raises RecordFailed.
        settle: Notes that the outcome of a token is known, some time soon.
        clock: Returns the time, UTC.
        wanted: False for a backend whose certificates cost nothing: tokens are
            made, nothing is remembered.
    """

    def __init__(
        self,
        backend: str,
        *,
        note: Note,
        settle: Callable[[str], None],
        clock: Callable[[], datetime],
        wanted: bool,
    ) -> None:
        self._backend = backend
        self._note = note
        self._settle = settle
        self._clock = clock
        self._wanted = wanted
        self._open: dict[_Subject, Intent] = {}
        self._by_token: dict[str, _Subject] = {}
        self._in_flight: set[_Subject] = set()

    def __len__(self) -> int:
        """Count the open intents."""
        return len(self._open)

    def restore(self, intents: Sequence[Intent]) -> None:
        """Take the intents that an earlier process left open.

        Args:
            intents: Of all backends; those of others are passed over.
        """
        for intent in intents:
            if intent.backend == self._backend:
                self._remember(_subject_of(intent.draft), intent)

    @property
    def open(self) -> Sequence[Intent]:
        """Those whose outcome is not known."""
        return tuple(self._open.values())

    def holds(self, order: Order) -> bool:
        """Tell whether an earlier attempt at an order has no known outcome."""
        return bool(self._open) and _subject(order) in self._open

    async def declare(self, orders: Sequence[Order]) -> Sequence[Declared | MeshsignerError]:
        """Give each order its token, and commit the intents of those that have none yet.

        Returns:
            For each order, in its place: its errand, to be ended by `end`; or
            why it cannot be sent now.
        """
        if not self._wanted:
            errands = (Errand(order=order, token=uuid4().hex) for order in orders)
            return [Declared(errand=errand, repeated=False) for errand in errands]
        self._forget_expired()
        declared = [self._declare(order) for order in orders]
        fresh = [
            self._intent(one.errand)
            for one in declared
            if isinstance(one, Declared) and not one.repeated
        ]
        try:
            if fresh:
                await self._note(fresh)
        except RecordFailed as fault:
            self._withdraw(declared)
            return [fault] * len(orders)
        for intent in fresh:
            self._remember(_subject_of(intent.draft), intent)
        return declared

    def end(self, token: str, *, settled: bool) -> None:
        """Take it that nobody works on an attempt any more.

        Args:
            token: Of the attempt; one that is unknown here is passed over.
            settled: True when its outcome is known: recorded, or certainly nothing.
        """
        subject = self._by_token.get(token)
        if subject is None:
            return
        self._in_flight.discard(subject)
        if settled:
            del self._by_token[token], self._open[subject]
            self._settle(token)

    def _declare(self, order: Order) -> Declared | Overloaded:
        subject = _subject(order)
        if subject in self._in_flight:  # on other terms, else it had joined
            return Overloaded("intent_in_flight")
        self._in_flight.add(subject)
        known = self._open.get(subject)
        token = uuid4().hex if known is None else known.token
        return Declared(errand=Errand(order=order, token=token), repeated=known is not None)

    def _withdraw(self, declared: Sequence[Declared | MeshsignerError]) -> None:
        for one in declared:
            if isinstance(one, Declared):
                self._in_flight.discard(_subject(one.errand.order))

    def _intent(self, errand: Errand) -> Intent:
        now = self._clock()
        draft = make_draft(errand.order, self._backend, now)
        return Intent(token=errand.token, backend=self._backend, at=now, draft=draft)

    def _remember(self, subject: _Subject, intent: Intent) -> None:
        self._open[subject] = intent
        self._by_token[intent.token] = subject

    def _forget_expired(self) -> None:
        now = self._clock()
        over = [i.token for i in self._open.values() if i.draft.not_after < now]
        for token in over:
            self.end(token, settled=True)


def _subject(order: Order) -> _Subject:
    return order.caller.cluster, order.terms.identity.uri, order.request.csr_sha256.hex()


def _subject_of(draft: Record) -> _Subject:
    return draft.cluster, draft.identity, draft.csr_sha256
