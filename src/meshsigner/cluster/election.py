"""One process of many leads: it holds the Lease, and whoever is not it waits for it.

Decides when to ask and when to give up. A term is over a tenth before the lease
could be another's, for clocks of two machines do not run alike.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from meshsigner.cluster.lease import LeaseState, Seen, claim
from meshsigner.cluster.term import Clock, Term, TermOver, boot_clock
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import LEASES, Conflict, JsonObject, KubernetesApi, NotFound
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

DURATION_S = 9.0  # with a look each quarter another leads after at most 13.5 s
_SAFE = 0.9  # of the duration is the leader's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the election is held.

    Attributes:
        namespace: Of the Lease.
        name: Of the Lease.
        me: This process, told apart from all others.
        duration_s: Of the lease; it is renewed and looked at each quarter of it.
    """

    namespace: str
    name: str
    me: str
    duration_s: float = DURATION_S

    @property
    def pause_s(self) -> float:
        """Seconds between two looks."""
        return self.duration_s / 4


class Election:
    """Takes part in an election, for as long as it runs.

    Args:
        api: The API server.
        place: Where.
        lead: Awaited with each term; cancelled when the term is over.
        notes: Returns what to note with the next renewal.
        heard: Told of the notes at each look, leader or not.
        clock: Goes on while the machine sleeps, in seconds.
    """

    def __init__(
        self,
        api: KubernetesApi,
        place: Place,
        *,
        lead: Callable[[Term], Awaitable[None]],
        notes: Callable[[], str | None] = lambda: None,
        heard: Callable[[str], None] = lambda _: None,
        clock: Clock = boot_clock,
    ) -> None:
        self._api = api
        self._place = place
        self._lead = lead
        self._notes = notes
        self._heard = heard
        self._clock = clock
        self._seen: Seen | None = None
        self._path = LEASES.object(place.name, place.namespace)
        self.leader = ""
        self.fault = ""

    @property
    def leads(self) -> bool:
        """Whether this process believes to lead."""
        return self.leader == self._place.me

    async def run(self) -> None:
        """Wait for the lease, lead, and begin anew, until cancelled."""
        while True:
            term = await self._look()
            if term is None:
                await asyncio.sleep(self._place.pause_s)
                continue
            try:
                await self._serve(term)
            finally:
                self.leader = ""

    async def _look(self) -> Term | None:
        """Look at the lease once, and take it if that is allowed."""
        try:
            state = await self._read()
            self.fault = ""
            if self._seen is not None and not self._seen.may_be_taken(
                self._place.me, self._clock()
            ):
                return None
            return await self._take(state)
        except Conflict:
            return None  # another was faster
        except BackendUnavailable as error:
            self._tell_fault(str(error))
            return None

    async def _read(self) -> LeaseState | None:
        try:
            state = LeaseState.parse(await self._api.get(self._path))
        except NotFound:
            self._seen = None
            return None
        now_s = self._clock()
        first = Seen(state=state, since_s=now_s)
        self._seen = first if self._seen is None else self._seen.next(state, now_s)
        self.leader = state.holder if state.holder != self._place.me else ""
        self._heard(state.notes)
        return state

    async def _take(self, state: LeaseState | None) -> Term:
        began_s = self._clock()  # before the request: the server's count begins later
        document = claim(self._place.name, self._place.me, self._place.duration_s, before=state)
        if state is None:
            made = await self._api.create(LEASES.collection(self._place.namespace), document)
        else:
            made = await self._api.replace(self._path, document)
        self._remember(made)
        self.leader = self._place.me
        get_logger().info(Event.LEADING, lease=self._place.name, me=self._place.me)
        return Term(began_s + self._place.duration_s * _SAFE, self._clock)

    def _remember(self, document: JsonObject) -> None:
        self._seen = Seen(state=LeaseState.parse(document), since_s=self._clock())

    async def _serve(self, term: Term) -> None:
        """Lead, renewing the lease, until one of both ends."""
        leading = asyncio.ensure_future(self._lead(term))
        renewing = asyncio.create_task(self._renew_until_over(term))
        try:
            await asyncio.wait([leading, renewing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            valid = term.is_valid()
            term.end()
            for task in (leading, renewing):
                task.cancel()
            done = await asyncio.gather(leading, renewing, return_exceptions=True)
            get_logger().info(Event.NOT_LEADING, lease=self._place.name, me=self._place.me)
            if valid:
                await self._give_back()
        for outcome in done:
            if isinstance(outcome, Exception) and not isinstance(outcome, TermOver):
                raise outcome

    async def _renew_until_over(self, term: Term) -> None:
        while True:
            await asyncio.sleep(self._place.pause_s)
            term.check()
            try:
                await self._keep(term)
                self.fault = ""
            except BackendUnavailable as error:
                self._tell_fault(str(error))  # the term's own end is near enough

    async def _keep(self, term: Term) -> None:
        """Renew the lease; where it has changed, see first whose it is."""
        try:
            await self._renew(term)
        except Conflict:
            await self._reread(term)
            await self._renew(term)

    async def _renew(self, term: Term) -> None:
        seen = self._seen
        if seen is None:
            raise TermOver
        began_s = self._clock()
        place = self._place
        document = claim(
            place.name, place.me, place.duration_s, before=seen.state, notes=self._notes()
        )
        self._remember(await self._api.replace(self._path, document))
        term.extend(began_s + place.duration_s * _SAFE)

    async def _reread(self, term: Term) -> None:
        """See whether another has the lease, or somebody has only touched it."""
        state = await self._read()
        if state is None or state.holder != self._place.me:
            term.end()
            raise TermOver
        self.leader = self._place.me

    async def _give_back(self) -> None:
        """Spare the next one the wait."""
        if self._seen is None:
            return
        state = replace(self._seen.state)
        with suppress(BackendUnavailable):
            document = claim(self._place.name, "", 1.0, before=state)
            await self._api.replace(self._path, document)

    def _tell_fault(self, fault: str) -> None:
        if fault != self.fault:
            self.fault = fault
            get_logger().warning(Event.ELECTION_FAULT, lease=self._place.name, cause=fault)
