"""One call of a remote backend, repeated where that is safe, within its time.

Decides what may be repeated: what certainly issued nothing, and what is the
same to the backend by its token. What came of each order is told apart by the
answers; the call as a whole raises nothing but bugs.

Source: docs/ARCHITECTURE.md, "Backends"; stamina 26.1 (hooks that say how long
to wait).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

from meshsigner.dispatch.breaker import Breaker, Circuit
from meshsigner.dispatch.pace import Pace
from meshsigner.errors import (
    BackendUnavailable,
    MeshsignerError,
    Overloaded,
    ServiceFault,
    WrongCertificate,
)
from meshsigner.model import Chain, Errand
from meshsigner.ports import RemoteSigner

Answers = Sequence[Chain | MeshsignerError]
T = TypeVar("T")

_ATTEMPTS = 10  # the request's time ends before; a circuit that opens ends them too
_WAIT_S = 0.05
_MAX_WAIT_S = 1.0
_JITTER_S = 0.05

# Its own hooks would log and count under names of their own: `on_retry` is ours.
set_on_retry_hooks(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Calls one backend.

    Attributes:
        backend: Whom.
        pace: When a repetition may start; the first start was granted before.
        breaker: Counts how calls end.
        on_retry: Told of each repetition.
    """

    backend: RemoteSigner
    pace: Pace
    breaker: Breaker
    on_retry: Callable[[], None]

    async def call(self, errands: Sequence[Errand], deadline_s: float, *, alone: bool) -> Answers:
        """Have orders signed.

        Args:
            errands: As many as the backend takes at once.
            deadline_s: After this nobody waits, seconds of the event loop's clock.
            alone: True when no other backend can sign them, so that it is worth
                while to wait for this one.

        Returns:
            For each errand its chain or error.
        """
        doubts: list[BackendUnavailable] = []
        try:
            answers = await self._persist(errands, deadline_s, alone, doubts)
        except MeshsignerError as error:
            answers = [error] * len(errands)
        return [
            await self._settle_doubt(errand, answer, doubts, deadline_s)
            for errand, answer in zip(errands, answers, strict=True)
        ]

    async def _persist(
        self,
        errands: Sequence[Errand],
        deadline_s: float,
        alone: bool,  # noqa: FBT001 - handed through
        doubts: list[BackendUnavailable],
    ) -> Answers:
        """Call, again and again where that is safe; note each attempt that may have issued."""
        left_s = deadline_s - asyncio.get_running_loop().time()
        attempts = stamina.retry_context(
            on=lambda error: self._again(error, alone, doubts),
            attempts=_ATTEMPTS,
            timeout=max(left_s, _WAIT_S),
            wait_initial=_WAIT_S,
            wait_max=_MAX_WAIT_S,
            wait_jitter=_JITTER_S,
        )
        answers: Answers = ()
        async for attempt in attempts:
            with attempt:
                if attempt.num > 1:
                    self.on_retry()
                    await self.pace.grant()
                answers = await self._once(errands, deadline_s)
        return answers

    def _again(
        self,
        error: Exception,
        alone: bool,  # noqa: FBT001 - handed through
        doubts: list[BackendUnavailable],
    ) -> bool | float:
        """Say whether a call may be repeated, or after how many seconds."""
        if isinstance(error, BackendUnavailable) and error.maybe_issued:
            doubts.append(error)
        if self.breaker.circuit is Circuit.OPEN or not (alone or doubts):
            return False
        if doubts and not self.backend.capabilities.idempotent:
            return False
        if isinstance(error, Overloaded):
            return error.retry_after_s or True
        return isinstance(error, BackendUnavailable)

    async def _settle_doubt(
        self,
        errand: Errand,
        answer: Chain | MeshsignerError,
        doubts: list[BackendUnavailable],
        deadline_s: float,
    ) -> Chain | MeshsignerError:
        """Look for what an attempt may have issued before the last one failed."""
        if isinstance(answer, Chain):
            return answer
        own = isinstance(answer, BackendUnavailable) and answer.maybe_issued
        doubt = answer if own else (doubts[-1] if doubts else None)
        if not isinstance(doubt, BackendUnavailable):
            return answer
        return await self.find(errand, doubt, deadline_s)

    async def _once(self, errands: Sequence[Errand], deadline_s: float) -> Answers:
        """Call once, and count how it ended."""
        try:
            answers = await self._bounded(errands, deadline_s)
        except Overloaded as error:
            self.pace.slow_down(error.retry_after_s)
            self.breaker.succeeded()
            raise
        except ServiceFault as error:
            self.breaker.failed(error)
            raise
        except MeshsignerError:
            self.breaker.succeeded()  # a refusal is an answer
            raise
        self._count(answers)
        if len(answers) != len(errands):
            raise WrongCertificate((f"{len(answers)} answers to {len(errands)} orders",))
        return answers

    def _count(self, answers: Answers) -> None:
        """Count a call by its answers: it failed if all of them say that the backend did."""
        faults = [answer for answer in answers if isinstance(answer, ServiceFault)]
        throttled = [answer for answer in answers if isinstance(answer, Overloaded)]
        if throttled:
            waits = [error.retry_after_s for error in throttled if error.retry_after_s is not None]
            self.pace.slow_down(max(waits, default=None))
        if faults and len(faults) == len(answers):
            self.breaker.failed(faults[0])
        else:
            self.breaker.succeeded()

    async def _bounded(self, errands: Sequence[Errand], deadline_s: float) -> Answers:
        ends_s = min(deadline_s, asyncio.get_running_loop().time() + self.backend.limits.call_s)
        answers = await _within(
            ends_s,
            self.backend.sign(errands, ends_s),
            maybe_issued=self.backend.capabilities.builds_x509,
        )
        return list(map(_an_answer, answers))

    async def find(
        self, errand: Errand, otherwise: BackendUnavailable, deadline_s: float
    ) -> Chain | BackendUnavailable:
        """Look for what was issued under a token.

        Args:
            errand: What was asked for.
            otherwise: What is known so far.
            deadline_s: Until when.

        Returns:
            The chain; or an error that says that certainly nothing was issued,
            or `otherwise` when that could not be found out.
        """
        if not self.backend.capabilities.finds:
            return otherwise
        try:
            found = await _within(deadline_s, self.backend.find(errand, deadline_s))
        except MeshsignerError:
            return otherwise
        if found is None:
            return BackendUnavailable(f"{otherwise}; nothing was issued")
        return found


def _an_answer(answer: object) -> Chain | MeshsignerError:
    if isinstance(answer, Chain | MeshsignerError):
        return answer
    return WrongCertificate(("not an answer at all",))


async def _within(deadline_s: float, answer: Awaitable[T], *, maybe_issued: bool = False) -> T:
    try:
        async with asyncio.timeout_at(deadline_s):
            return await answer
    except TimeoutError as late:
        text = "no answer within its time"
        raise BackendUnavailable(text, maybe_issued=maybe_issued) from late
