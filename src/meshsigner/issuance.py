"""The order of work: from what a caller sent to a recorded certificate.

`Issuance.issue` is gather and wait. `Issuance._turn` is the way, one line a
stage: read, identify, parse, impersonate, authorize, queue, sign, check, record.
Each stage goes over all members before the next begins; whoever must wait for
something leaves the turn and rejoins. What a stage decides is not written
here, but in the module of its name.

Source: docs/ARCHITECTURE.md, "A request's way".
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meshsigner.batch import Gather, GatherLimits
from meshsigner.csr import parse_csr
from meshsigner.dispatch.lanes import Lanes
from meshsigner.dispatch.reconciling import Recovery
from meshsigner.errors import (
    BackendUnavailable,
    ImpersonationRefused,
    MeshsignerError,
    NotReady,
    Overloaded,
    RecordFailed,
    WrongCertificate,
)
from meshsigner.member import Member, Outstanding
from meshsigner.model import Chain, Health, Issuer, Order
from meshsigner.observe.metrics import Metrics
from meshsigner.orders import QueueLimits, Seen, Ticket
from meshsigner.parking import Parking
from meshsigner.policy import Policy, authorize, choose_backends, default_backends
from meshsigner.ports import Answer, Authenticator, Incoming, NodeAuthorizer, Parked, Signer
from meshsigner.recorder import Recorder, make_record
from meshsigner.verify import check_issued

_SIGN_STEP = 16  # orders signed between two looks at the clock
_MAX_LOGGED = 256  # characters of a stranger's text in a log line


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuanceLimits:
    """Bounds of the way.

    Attributes:
        gather: Of what waits for a turn.
        queue: Of what waits for the signer.
        parked: Most calls that wait for a key set or a token review.
        slice_s: How long a turn works before the sockets get a look, seconds.
    """

    gather: GatherLimits = field(default_factory=GatherLimits)
    queue: QueueLimits = field(default_factory=QueueLimits)
    parked: int = 2_000
    slice_s: float = 0.02


class Issuance:
    """Takes calls, answers each with its own checked and recorded certificate.

    Args:
        authenticator: Proves callers.
        signers: Sign orders, each the substitute of those before it unless the
            policy says otherwise.
        recorder: Writes certificates down.
        policy: Returns the rules in force.
        metrics: Counts turns.
        clock: Returns the time, UTC.
        nodes: Lets nodes' agents act for others; None lets nobody.
        limits: Bounds.

    Attributes:
        recovery: What an earlier process left open; to be started before serving.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        signers: Sequence[Signer],
        recorder: Recorder,
        policy: Callable[[], Policy],
        metrics: Metrics,
        clock: Callable[[], datetime],
        nodes: NodeAuthorizer | None = None,
        limits: IssuanceLimits | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._recorder = recorder
        self._policy = policy
        self._metrics = metrics
        self._clock = clock
        self._nodes = nodes
        self._limits = limits or IssuanceLimits()
        self._gather = Gather[Member](
            self._turn, self._fail_all, self._limits.gather, lambda: recorder.busy
        )
        recorder.tell_when_free(self._gather.release)
        self._parking = Parking[Member](self._resume, self._limits.parked)
        self._lanes = Lanes(
            signers,
            limits=self._limits.queue,
            metrics=metrics,
            recorder=recorder,
            clock=clock,
            wanted=self._gather.poke,
        )
        self.recovery = Recovery(self._lanes.remote, recorder, clock)
        self._seen = Seen()
        self._taken: list[Ticket] = []
        self._outstanding = Outstanding()
        self._worked_until_s = 0.0
        self._draining = False

    async def issue(self, incoming: Incoming[Answer]) -> Answer:
        """Answer one call.

        Args:
            incoming: The call; the stages add what they learn to its line.

        Returns:
            The edge's rendering of a chain that was checked against this call
            and is in the inventory.

        Raises:
            MeshsignerError: One of docs/errors.md.
        """
        if self._draining:
            raise NotReady("the server is shutting down")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        member = Member(incoming=incoming, answer=answer)
        self._shedding(lambda: self._gather.add(member, incoming.size_bytes))
        self._outstanding.add(member)
        try:
            return await answer
        finally:
            self._outstanding.discard(member)

    def health(self) -> Sequence[Health]:
        """Say whether each part of the way can work."""
        server = Health(name="server", ready=False, detail="shutting down")
        return (
            *self._lanes.health(default_backends(self._policy()), self._clock()),
            self._recorder.health(),
            *self._authenticator.health(),
            *(self._nodes.health() if self._nodes else ()),
            *((server,) if self._draining else ()),
        )

    def newcomers_wait_s(self, before: int) -> float:
        """Foretell how long a call would wait, behind `before` calls that are not here yet."""
        return self._lanes.wait_s(before + len(self._gather))

    async def drain(self, grace_s: float) -> None:
        """Take no more calls; answer those that are there.

        Args:
            grace_s: After this many seconds the rest gets UNAVAILABLE.
        """
        self._draining = True
        ends_s = asyncio.get_running_loop().time() + grace_s
        await self._outstanding.wait(grace_s)
        await self._lanes.aclose(ends_s)
        self._turn([])  # what came in the last moment is recorded, whoever waits for it
        self._outstanding.fail(NotReady("the server shut down before the answer"))
        self._parking.close()

    def _turn(self, members: list[Member]) -> None:
        """Do one pass over all that is there."""
        started, now, policy = time.perf_counter(), self._clock(), self._policy()
        here = [member for member in members if not member.done()]
        here = self._step(here, self._read)
        here = self._step(here, lambda member: self._identify(member, now))
        here = self._step(here, self._parse)
        here = self._step(here, lambda member: self._impersonate(member, now))
        here = self._step(here, lambda member: self._authorize(member, policy, now))
        self._step(here, self._queue)
        signed = self._finished() if self._lanes.remote else []
        signed += self._sign(started + self._limits.slice_s)
        checked = self._check(signed, now)
        self._record(checked, now)
        self._end_turn(len(members), len(signed), time.perf_counter() - started)

    def _step(self, members: list[Member], stage: Callable[[Member], bool]) -> list[Member]:
        """Take every member through a stage; whom it refuses or parks drops out."""
        going_on = []
        for member in members:
            try:
                if stage(member):
                    going_on.append(member)
            except MeshsignerError as error:
                member.fail(error)
        return going_on

    def _read(self, member: Member) -> bool:
        """Read what the call says; once is enough for one that rejoins."""
        if not member.parked_for:
            member.ask = member.incoming.read()
        return True

    def _identify(self, member: Member, now: datetime) -> bool:
        """Prove the caller, or park the member; one that waited for a look is proven already."""
        shown = member.ask.credentials
        found = member.caller if member.looked else self._authenticator.identify(shown, now)
        if isinstance(found, Parked):
            self._park(member, found)
            return False
        member.caller = found
        line = member.incoming.line
        line["identity"] = found.identity.uri
        line["cluster"] = found.cluster
        line["auth_method"] = found.auth_method.value
        line["pod_name"] = found.pod_name
        return True

    def _parse(self, member: Member) -> bool:
        member.request = parse_csr(member.ask.csr_pem)
        member.incoming.line["csr_sha256"] = member.request.csr_sha256.hex()
        return True

    def _impersonate(self, member: Member, now: datetime) -> bool:
        """Settle whom to certify: the caller, or a workload that it may act for."""
        impersonated = member.ask.credentials.impersonated_identity
        if not impersonated:
            member.identity = member.caller.identity
            return True
        member.incoming.line["impersonated_identity"] = impersonated[:_MAX_LOGGED]
        if self._nodes is None:
            raise ImpersonationRefused("no node accounts are trusted")
        found = self._nodes.authorize(member.caller, impersonated, now, looked=member.looked)
        if isinstance(found, Parked):
            member.looked = True
            self._park(member, found)
            return False
        member.identity = found
        return True

    def _authorize(self, member: Member, policy: Policy, now: datetime) -> bool:
        """Decide the terms: from here on there is an order."""
        credentials = member.ask.credentials
        route = choose_backends(policy, member.caller, member.identity, credentials.cert_signer)
        member.route = route
        member.backend, issuer = self._lanes.first(route, now)
        terms = authorize(
            caller=member.caller,
            identity=member.identity,
            request=member.request,
            asked_lifetime=member.ask.asked_lifetime,
            policy=policy,
            now=now,
            issuer_not_after=issuer.not_after,
        )
        member.order = Order(
            caller=member.caller,
            request=member.request,
            terms=terms,
            cert_signer=credentials.cert_signer,
            issuer=issuer,
            peer=credentials.peer,
            csr_pem=member.ask.csr_pem,
        )
        return True

    def _queue(self, member: Member) -> bool:
        """Put the order in its place, or join it to an equal one in flight."""
        order, backend, route = member.order, member.backend, member.route
        priority = self._seen.priority(order)
        self._shedding(lambda: self._lanes.offer(order, priority, member, backend, route))
        return True

    def _sign(self, until_s: float) -> list[tuple[Ticket, Chain]]:
        """Sign what is next, while the turn's time lasts; at least one step a backend."""
        signed: list[tuple[Ticket, Chain]] = []
        for lane in self._lanes.local:
            sign = lane.backend.sign
            while tickets := lane.orders.take(_SIGN_STEP):
                self._taken += tickets
                for ticket in tickets:
                    try:
                        signed.append((ticket, sign(ticket.order)))
                    except MeshsignerError as error:
                        self._fail(ticket, error)
                if time.perf_counter() >= until_s:
                    break
        return signed

    def _finished(self) -> list[tuple[Ticket, Chain]]:
        """Take what remote backends have answered since the last turn."""
        signed: list[tuple[Ticket, Chain]] = []
        for outcome in self._lanes.finished():
            self._taken.append(outcome.ticket)
            if isinstance(outcome.answer, Chain):
                signed.append((outcome.ticket, outcome.answer))
            else:
                self._fail(outcome.ticket, outcome.answer)
        return signed

    def _check(
        self, signed: list[tuple[Ticket, Chain]], now: datetime
    ) -> list[tuple[Ticket, Chain]]:
        """Let nothing pass that is not what its own order says; the last proves those before it."""
        checked, remote, proven = [], bool(self._lanes.remote), set[Issuer]()
        for ticket, chain in reversed(signed):
            try:
                if remote:
                    self._lanes.take_validity(ticket, chain, now)
                check_issued(chain, ticket.order, proven=proven)
            except WrongCertificate as wrong:
                self._fail(ticket, wrong)
            else:
                checked.append((ticket, chain))
        if checked:
            self._lanes.signed_right(checked)
        return checked[::-1]

    def _record(self, checked: list[tuple[Ticket, Chain]], now: datetime) -> None:
        """Have it written down; whoever waits is answered after the commit."""
        self._taken = []
        if checked:
            records = [
                make_record(ticket.order, chain, now, delivered=not ticket.abandoned)
                for ticket, chain in checked
            ]
            self._recorder.submit(records, lambda fault: self._answer(checked, fault))

    def _answer(self, recorded: list[tuple[Ticket, Chain]], fault: RecordFailed | None) -> None:
        """Hand out what is safe in the inventory, withhold what is not."""
        for ticket, chain in recorded:
            if fault is not None:
                self._refuse(ticket, RecordFailed(str(fault)))
                continue
            self._lanes.recorded(ticket)
            self._seen.remember(ticket.order)
            if ticket.abandoned:
                self._recorder.undelivered(f"{chain.serial:x}")
            for waiter in ticket.waiters:
                waiter.succeed(chain, ticket.order)

    def _end_turn(self, members: int, orders: int, seconds: float) -> None:
        """Count a turn; while work is left, what lies between two turns is its cost, too."""
        now_s = time.perf_counter()
        spent_s = now_s - self._worked_until_s if self._worked_until_s else seconds
        waiting = self._lanes.worked(orders, spent_s)
        self._worked_until_s = now_s if waiting or len(self._gather) else 0.0
        self._metrics.turn_done(members=members, seconds=seconds, queued=len(self._lanes))
        self._metrics.parked(len(self._parking))
        if waiting:
            self._gather.poke()

    def _park(self, member: Member, parked: Parked) -> None:
        """Wait for something, once: what was fetched and settles nothing never will."""
        if parked.key in member.parked_for:
            raise BackendUnavailable("what was fetched did not settle who the caller is")
        member.parked_for.add(parked.key)
        self._shedding(lambda: self._parking.park(member, parked))

    def _resume(self, member: Member, error: BaseException | None) -> None:
        """Take a member back into the next turn, or fail it with its fetch."""
        if isinstance(error, asyncio.CancelledError):
            error = NotReady("the server is shutting down")
        if error is not None:
            member.fail(error)
        elif not member.done():
            self._gather.rejoin(member, member.incoming.size_bytes)

    def _shedding(self, admit: Callable[[], object]) -> None:
        """Count a bound that is met, wherever it is."""
        try:
            admit()
        except Overloaded as overload:
            self._metrics.shed(overload.what)
            raise

    def _fail(self, ticket: Ticket, error: MeshsignerError) -> None:
        """Give a failed order to another backend; without one it is refused."""
        if isinstance(error, WrongCertificate):
            self._metrics.wrong_certificate(ticket.backend)
            self._lanes.signed_wrong(ticket, error)
        if not self._lanes.hand_on(ticket, error):
            self._refuse(ticket, error)

    def _refuse(self, ticket: Ticket, error: MeshsignerError) -> None:
        """Fail an order and everybody who waits for it."""
        self._lanes.refused(ticket)
        for waiter in ticket.waiters:
            waiter.fail(error)

    def _fail_all(self, members: list[Member], bug: Exception) -> None:
        """Tell everybody whom a bug in a turn concerned."""
        error = MeshsignerError("a bug in a turn")
        error.__cause__ = bug
        for member in members:
            member.fail(error)
        for ticket in self._taken:
            self._refuse(ticket, error)
        self._taken = []
