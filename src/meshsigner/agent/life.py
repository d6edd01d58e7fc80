"""The life of one workload's certificate: obtained, renewed, kept over failures, expired.

One task owns it. A new key is made for each certificate; the answer is checked
before it takes the place of the one in use, and when none comes the old one is
served until it expires, not a second longer. When to ask is decided by
`schedule`, asking is `ca_client`'s, checking `answer`'s, serving the store's.

Source: istio security/pkg/nodeagent/cache/secretcache.go; ztunnel
src/identity/manager.rs (one owner; a valid certificate outlives a failure).
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.agent.answer import Answer, WrongAnswer, check_answer
from meshsigner.agent.ca_client import CallFailed
from meshsigner.agent.keys import KeyType, PrivateKey, build_csr, make_key, render_key
from meshsigner.agent.schedule import Timing, renewal_at, retry_after
from meshsigner.agent.secrets import SecretStore, Svid
from meshsigner.model import Health
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

WRONG_ANSWER = "WRONG_ANSWER"  # beside the names of gRPC's statuses
_WRONG = "what the CA answered is not what was asked for"
# Longest sleep in one piece: a machine that slept, or whose clock was set, notices after that.
SLICE = timedelta(seconds=15)
EXPIRY_POLL_S = 1.0  # validity has no finer grain, RFC 5280 4.1.2.5


class Ca(Protocol):
    """Who issues."""

    async def create_certificate(self, csr_pem: str, lifetime_s: int) -> tuple[str, ...]:
        """Ask for a certificate.

        Raises:
            CallFailed: There is none.
        """
        ...


class Keeper(Protocol):
    """Where a certificate survives a restart."""

    def restore(self, now: datetime) -> Svid | None:
        """Return what was kept, if it is good at this time."""
        ...

    def keep(self, svid: Svid) -> None:
        """Keep it.

        Raises:
            OSError: It cannot be kept.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What certificate a workload wants.

    Attributes:
        workload: The workload's name.
        key_type: Kind of each new key.
        lifetime: Wished lifetime.
    """

    workload: str
    key_type: KeyType = KeyType.P256
    lifetime: timedelta = timedelta(hours=24)


class Life:
    """Keeps one workload's certificate fresh.

    Args:
        wish: What is wanted.
        store: Takes the certificates; knows the identity.
        ca: Issues them.
        timing: When to renew and to try again.
        keeper: Keeps them over a restart; None keeps nothing.
        metrics: Counts.
        clock: Returns the time, UTC.
        random: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        wish: Wish,
        *,
        store: SecretStore,
        ca: Ca,
        timing: Timing,
        keeper: Keeper | None,
        metrics: AgentMetrics,
        clock: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        self._wish = wish
        self._store = store
        self._ca = ca
        self._timing = timing
        self._keeper = keeper
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._wake = asyncio.Event()
        self._failures = 0
        self.last_failure = ""
        self.due_at = clock()

    async def run(self) -> None:
        """Obtain and renew, and withdraw what expires, until cancelled."""
        self._restore()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._renew())
            both.create_task(self._withdraw())

    async def _renew(self) -> None:
        while True:
            await self._until_due()
            try:
                svid = await self._obtain()
            except CallFailed as failed:
                self._failed(failed.code, str(failed), failed.meaning)
            except WrongAnswer as wrong:
                self._failed(WRONG_ANSWER, str(wrong), _WRONG)
            else:
                await self._take(svid)

    async def _withdraw(self) -> None:
        """Look at the expiry beside renewals, for one of these may wait long for the CA."""
        while True:
            self.expire()
            await asyncio.sleep(EXPIRY_POLL_S)

    def renew(self) -> None:
        """Renew before age asks for it, a little later than now: others are told so too."""
        at = self._clock() + self._timing.spread * self._random()
        self.due_at = min(self.due_at, at)
        self._wake.set()

    def health(self) -> Health:
        """Say whether a certificate is served, until when, and what the last failure was."""
        svid = self._store.svid
        if svid is None:
            detail = self.last_failure or "the first certificate is being obtained"
        else:
            detail = f"until {_utc(svid.not_after)}, renewal at {_utc(self.due_at)}"
            detail += f"; the last try failed: {self.last_failure}" if self.last_failure else ""
        return Health(
            name=f"certificate/{self._wish.workload}", ready=svid is not None, detail=detail
        )

    def _restore(self) -> None:
        svid = None if self._keeper is None else self._keeper.restore(self._clock())
        if svid is not None:
            self._serve(svid, Event.CERTIFICATE_RESTORED)

    async def _until_due(self) -> None:
        while (now := self._clock()) < self.due_at:
            rest = min(self.due_at - now, SLICE)
            with suppress(TimeoutError):
                async with asyncio.timeout(rest.total_seconds()):
                    await self._wake.wait()
            self._wake.clear()

    def expire(self) -> None:
        """Withdraw the certificate if its time is over."""
        svid = self._store.svid
        if svid is not None and self._clock() > svid.not_after:
            self._store.withdraw()
            self._metrics.serves(self._wish.workload, None)
            get_logger().error(Event.CERTIFICATE_EXPIRED, **self._fields(svid))

    async def _obtain(self) -> Svid:
        """Make a key, ask, check.

        Raises:
            CallFailed: The CA gave none.
            WrongAnswer: What it gave is not what was asked for.
        """
        started_s = time.monotonic()
        key = await asyncio.to_thread(make_key, self._wish.key_type)
        identity = str(self._store.identity)
        chain = await self._ca.create_certificate(
            build_csr(key, identity).decode(), int(self._wish.lifetime.total_seconds())
        )
        now = self._clock()
        svid = svid_of(check_answer(chain, key.public_key(), identity, now), key, now)
        self._metrics.obtained(self._wish.workload, seconds=time.monotonic() - started_s)
        return svid

    async def _take(self, svid: Svid) -> None:
        self._failures, self.last_failure = 0, ""
        before = self._store.roots_pem
        self._serve(svid, Event.CERTIFICATE_OBTAINED)
        if before and before != svid.roots_pem:
            get_logger().warning(Event.ROOTS_CHANGED, workload=self._wish.workload)
        if self._keeper is None:
            return
        try:
            await asyncio.to_thread(self._keeper.keep, svid)
        except OSError as error:
            get_logger().error(
                Event.FILES_NOT_WRITTEN, workload=self._wish.workload, cause=str(error)
            )

    def _serve(self, svid: Svid, event: Event) -> None:
        self._store.take(svid)
        self._metrics.serves(self._wish.workload, svid.not_after)
        self.due_at = renewal_at(svid.taken_at, svid.not_after, self._timing, self._random())
        get_logger().info(event, renewal_at=self.due_at, **self._fields(svid))

    def _failed(self, code: str, cause: str, meaning: str) -> None:
        self._failures += 1
        self.last_failure = cause
        svid = self._store.svid
        lifetime = None if svid is None else svid.not_after - svid.taken_at
        wait = retry_after(self._failures, lifetime, self._timing, self._random())
        self.due_at = self._clock() + wait
        self._metrics.failed(self._wish.workload, code)
        get_logger().error(
            Event.CERTIFICATE_FAILED,
            workload=self._wish.workload,
            identity=str(self._store.identity),
            code=code,
            cause=cause,
            meaning=meaning,
            again_after_s=round(wait.total_seconds(), 1),
            serving_until=None if svid is None else svid.not_after,
        )

    def _fields(self, svid: Svid) -> dict[str, object]:
        return {
            "workload": self._wish.workload,
            "identity": str(self._store.identity),
            "serial": svid.serial,
            "not_after": svid.not_after,
        }


def svid_of(answer: Answer, key: PrivateKey, now: datetime) -> Svid:
    """Make what is served of an answer that passed its check.

    Args:
        answer: The answer.
        key: Its private key.
        now: When it came.
    """
    roots = tuple(dict.fromkeys(answer.roots))
    chain = [answer.leaf, *(ca for ca in answer.intermediates if ca not in roots)]
    return Svid(
        key_pem=render_key(key),
        chain_pem=b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain),
        roots_pem=b"".join(root.public_bytes(Encoding.PEM) for root in roots),
        serial=f"{answer.leaf.serial_number:x}",
        not_before=answer.leaf.not_valid_before_utc,
        not_after=answer.leaf.not_valid_after_utc,
        taken_at=now,
    )


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
