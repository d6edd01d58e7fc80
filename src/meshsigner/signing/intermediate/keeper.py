"""When an intermediate is asked for, judged and taken; and when its renewal is in danger.

Decides moments and what may follow on what: roots that no answer can change,
the old intermediate in use until a good new one is there. Renewal begins at a
set share of its life; from then on it is tried again and again, with growing
pauses, until it succeeds or the life is over. Where the key is, is `keys`'
matter.

Source: RFC 5280 4.2.1.9 (path length); istio
security/pkg/pki/ca/selfsignedcarootcertrotator.go (renewal ahead of expiry).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Protocol

from cryptography import x509

from meshsigner.errors import ConfigurationError, MeshsignerError, Overloaded
from meshsigner.model import Health, Issuer
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.intermediate.keys import Asked, K, Prepare
from meshsigner.signing.intermediate.source import Granted, IntermediateSource
from meshsigner.signing.intermediate.store import Store
from meshsigner.signing.issuers import checked_issuer, tell_issuer
from meshsigner.signing.making import ca_name
from meshsigner.spiffe import TrustDomain
from meshsigner.trust.authority import extension_of
from meshsigner.trust.pem import describe
from meshsigner.trust.succession import succession_faults

LOOK_EVERY_S = 1.0  # at the files that other workers write, and at the clock
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # between attempts
DANGER_AT = 0.75  # of its life: half of the time for renewing has gone, at the default

Roots = tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[K]):
    """What is asked for and when.

    Attributes:
        lifetime: Of each intermediate.
        renew_at: Share of the life after which it is renewed.
        prepare: Makes the request for the next one, with its key.
        roots: What is trusted; empty to take the root of the first answer.
        trust_domain: Becomes the organization of its name.
        announced: Roots that this server's other workers hand out; the first
            intermediate must be under one of them. Empty at the first start.
    """

    lifetime: timedelta
    renew_at: float
    prepare: Prepare[K] = field(repr=False)
    roots: Roots
    trust_domain: TrustDomain
    announced: Roots = ()


class Counted(Protocol):
    """Counts attempts at a renewal."""

    def __call__(self, *, taken: bool) -> None:
        """Count one.

        Args:
            taken: It succeeded.
        """
        ...


class IntermediateKeeper(Generic[K]):
    """Keeps one intermediate that signs now.

    Args:
        name: Name of the backend.
        source: Gives it.
        store: Keeps it.
        plan: What is asked for and when.
        clock: Returns the time, UTC.
        taken: Told of each that is taken, in the event loop.
        counted: Told whether an attempt at a renewal succeeded.
        look_every_s: Seconds between two looks at files and clock.
        first_pause_s: Seconds after a first failure; doubled after each further one.
    """

    def __init__(
        self,
        *,
        name: str,
        source: IntermediateSource,
        store: Store[K],
        plan: Plan[K],
        clock: Callable[[], datetime],
        taken: Callable[[K], None],
        counted: Counted,
        look_every_s: float = LOOK_EVERY_S,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._name = name
        self._source = source
        self._store = store
        self._plan = plan
        self._clock = clock
        self._taken = taken
        self._counted = counted
        self._look_every_s = look_every_s
        self._first_pause_s = first_pause_s
        self._pause_s = first_pause_s
        self._looking = asyncio.Lock()
        self._current: K | None = None
        self._problem = ""
        self._not_before_s = 0.0

    async def keep(self) -> None:
        """Renew in time, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._look_every_s)

    async def look(self) -> None:
        """Take what another worker got; ask for another one if it is time."""
        async with self._looking:
            try:
                await self._load()
                if self._due() and asyncio.get_running_loop().time() >= self._not_before_s:
                    await self._renew()
            except MeshsignerError as error:
                self._failed(error)

    def health(self, now: datetime) -> Health:
        """Say whether there is one, until when, and whether its renewal is in danger."""
        name, files = f"backend/{self._name}", self._current
        if files is None:
            detail = self._problem or "no intermediate yet"
            return Health(name=name, ready=False, detail=detail)
        subject, expires = describe(files.issuer.certificate), files.issuer.not_after
        detail = f"{subject}, until {expires:%Y-%m-%d %H:%M:%S}Z"
        if self._problem:
            state = "in danger" if now >= self._moment(files, DANGER_AT) else "due"
            detail += f"; its renewal is {state}: {self._problem}"
        return Health(name=name, ready=now <= expires, detail=detail)

    def _due(self) -> bool:
        files = self._current
        return files is None or self._clock() >= self._moment(files, self._plan.renew_at)

    async def _load(self) -> None:
        """Take what is kept, if it is another one; what cannot be used is asked for anew."""
        try:
            found = await asyncio.to_thread(
                self._store.load, self._next_generation(), self._clock()
            )
            if found is not None:
                self._check_roots(found.issuer)
                self._take(found)
        except ConfigurationError as error:
            if str(error) != self._problem:
                get_logger().warning(
                    Event.BACKEND_ISSUER_MISSING, backend=self._name, cause=str(error)
                )
            self._problem = str(error)

    def _check_roots(self, issuer: Issuer) -> None:
        """Refuse an intermediate that workloads could not verify.

        Raises:
            ConfigurationError: Its root was never announced, or one in use is missing.
        """
        roots = issuer.trust_bundle.certificates
        faults: list[str] = []
        if self._current is not None:
            faults += succession_faults(self._current.issuer.trust_bundle.certificates, roots)
        elif self._plan.announced:
            faults += succession_faults(self._plan.announced, [roots[0], *self._plan.announced])
        if faults:
            raise ConfigurationError(*(f"{self._source.where}: {fault}" for fault in faults))

    async def _renew(self) -> None:
        with self._store.renewing() as ours:
            if not ours:
                return  # another worker asks; its answer is found by the next look
            await self._load()  # or has asked, a moment ago
            if not self._due():
                return
            files = await self._ask()
            await asyncio.to_thread(self._store.save, files)
            self._take(files)
            self._counted(taken=True)

    async def _ask(self) -> K:
        """Ask for the next intermediate.

        Raises:
            MeshsignerError: There is none, or it is not what was asked for.
        """
        asked = await self._plan.prepare(self._plan.trust_domain)
        name = ca_name(self._plan.trust_domain, "intermediate", asked.public_key)
        common_name = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        granted = await self._source.request(
            asked.csr_pem.decode("ascii"), str(common_name), self._plan.lifetime
        )
        return asked.certified(self._judge(granted, asked))

    def _judge(self, granted: Granted, asked: Asked[K]) -> Issuer:
        certificate, where = granted.chain[0], self._source.where
        if certificate.public_key() != asked.public_key:
            raise ConfigurationError(f"{where}: signed another key than the one that was asked for")
        constraints = extension_of(certificate, x509.BasicConstraints)
        if constraints is None or constraints.path_length != 0:
            raise ConfigurationError(
                f"{where}: gave a CA that may have others below it; expected path length 0"
            )
        issuer = checked_issuer(
            granted.chain,
            self._roots(granted),
            where=where,
            generation=self._next_generation(),
            now=self._clock(),
        )
        self._check_roots(issuer)
        return issuer

    def _roots(self, granted: Granted) -> Roots:
        """Return what is trusted: told, or the root of the first answer for ever after."""
        if self._plan.roots:
            return self._plan.roots
        if self._current is not None:
            return self._current.issuer.trust_bundle.certificates
        found = tuple(c for c in granted.chain if c.issuer == c.subject)
        if not found:
            raise ConfigurationError(
                f"{self._source.where}: its chain ends without a root; name the root's file: "
                "roots_file"
            )
        return found

    def _take(self, files: K) -> None:
        self._current = files
        self._problem, self._pause_s, self._not_before_s = "", self._first_pause_s, 0.0
        tell_issuer(self._name, files.issuer)
        self._taken(files)

    def _failed(self, error: MeshsignerError) -> None:
        """Try again later, and say it: an error once the end is near."""
        self._counted(taken=False)
        wait_s = self._pause_s
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s)
        self._not_before_s = asyncio.get_running_loop().time() + wait_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S, self._longest_pause_s())
        self._problem = str(error)
        log = get_logger()
        files = self._current
        danger = files is None or self._clock() >= self._moment(files, DANGER_AT)
        tell = log.error if danger else log.warning
        tell(
            Event.INTERMEDIATE_NOT_RENEWED,
            backend=self._name,
            cause=str(error),
            expires=None if files is None else files.issuer.not_after.isoformat(),
            again_in_s=wait_s,
        )

    def _longest_pause_s(self) -> float:
        """Return a pause that lets a short life be renewed several times over."""
        return max(self._first_pause_s, self._plan.lifetime.total_seconds() / 20)

    def _next_generation(self) -> int:
        return 1 if self._current is None else self._current.issuer.generation + 1

    def _moment(self, files: K, share: float) -> datetime:
        """Return when a share of an intermediate's life is over.

        Its life begins when it was given, not at its NotBefore, which CAs put back.
        """
        begins = files.issuer.certificate.not_valid_before_utc
        expires = files.issuer.not_after
        life = min(expires - begins, self._plan.lifetime)
        return expires - life * (1 - share)


MakeKeeper = Callable[[Callable[[K], None]], IntermediateKeeper[K]]
"""Makes the keeper, given what is to be told of each intermediate."""
