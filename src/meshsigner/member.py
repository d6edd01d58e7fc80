"""A call on its way through the stages, and how it ends.

Each stage of `issuance` fills in what it found; what is there depends on how
far the call has come. Nothing is decided here.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from meshsigner.model import Ask, Caller, CertificateRequest, Chain, Order
from meshsigner.ports import Incoming
from meshsigner.spiffe import WorkloadId


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
    order: Order = field(init=False)

    def done(self) -> bool:
        """Return whether the caller has an answer, or is gone."""
        return self.answer.done()

    def succeed(self, chain: Chain) -> None:
        """Answer with a chain, unless the caller has an answer or is gone."""
        if not self.answer.done():
            line = self.incoming.line
            line["serial"] = f"{chain.serial:x}"
            line["backend"] = chain.backend
            line["not_after"] = self.order.terms.not_after.isoformat()
            self.answer.set_result(self.incoming.render(chain))

    def fail(self, error: BaseException) -> None:
        """Answer with an error, unless the caller has an answer or is gone."""
        if not self.answer.done():
            self.incoming.line["cause"] = str(error)
            self.answer.set_exception(error)
