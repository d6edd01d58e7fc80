"""A call on its way through the stages, how it ends, and all that are on their way.

Each stage of `issuance` fills in what it found; what is there depends on how
far the call has come. Nothing is decided here.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from meshsigner.errors import DeadlinePassed
from meshsigner.model import Ask, Caller, CertificateRequest, Chain, Order
from meshsigner.ports import Incoming
from meshsigner.spiffe import WorkloadId

_SWEEP_S = 0.25  # how late a caller may learn that its time is over


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """A call on its way.

    Attributes:
        incoming: The call as its edge holds it.
        answer: What its edge awaits.
        parked_for: What it has waited for.
        looked: Whether it has waited for a look at the pods of its node.
        ask: What it says.
        caller: Who it is of.
        identity: Whom to certify.
        request: Its CSR.
        backend: Who signs it first.
        route: Names of the backends that may sign it, in order; empty for all.
        order: What is to be signed.
    """

    incoming: Incoming[Any]
    answer: asyncio.Future[Any]
    parked_for: set[Hashable] = field(default_factory=set)
    looked: bool = False
    ask: Ask = field(init=False)
    caller: Caller = field(init=False)
    identity: WorkloadId = field(init=False)
    request: CertificateRequest = field(init=False)
    backend: str = field(init=False)
    route: tuple[str, ...] = field(init=False)
    order: Order = field(init=False)

    @property
    def deadline_s(self) -> float:
        """When nobody waits any longer, in seconds of the event loop's clock."""
        return self.incoming.deadline_s

    def done(self) -> bool:
        """Return whether the caller has an answer, or is gone."""
        return self.answer.done()

    def succeed(self, chain: Chain, order: Order) -> None:
        """Answer with a chain for an order, unless the caller has an answer or is gone."""
        if not self.answer.done():
            line = self.incoming.line
            line["serial"] = f"{chain.serial:x}"
            line["backend"] = chain.backend
            line["not_after"] = order.terms.not_after.isoformat()
            self.answer.set_result(self.incoming.render(chain))

    def failed_at(self, backend: str, error: BaseException) -> None:
        """Note in the call's line that a backend failed, and another one is asked."""
        line = self.incoming.line
        told = [line["failed_backends"]] if "failed_backends" in line else []
        line["failed_backends"] = "; ".join(map(str, [*told, f"{backend}: {error}"]))

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless the caller has an answer or is gone."""
        if not self.answer.done():
            self.incoming.line["cause"] = str(error)
            self.answer.set_exception(error)


class Outstanding:
    """The calls that wait for an answer; tells those whose time is over."""

    def __init__(self) -> None:
        self._members: set[Member] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self._members)

    def add(self, member: Member) -> None:
        """Take in a call."""
        self._members.add(member)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def discard(self, member: Member) -> None:
        """Let go of a call that is answered, or whose caller has gone."""
        self._members.discard(member)

    async def wait(self, grace_s: float) -> None:
        """Wait until all that are here now are answered, but no longer than the grace."""
        answers = [member.answer for member in self._members]
        if answers:
            await asyncio.wait(answers, timeout=grace_s)

    def fail(self, error: BaseException) -> None:
        """Answer all with an error."""
        for member in list(self._members):
            member.fail(error)

    def _sweep(self) -> None:
        """Answer callers whose time is over, whatever they wait for."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for member in [m for m in self._members if m.deadline_s <= now_s]:
            member.fail(DeadlinePassed("the request was not answered within its time"))
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep) if self._members else None
