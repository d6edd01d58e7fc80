"""The CA of the moment: loaded from a directory, and replaced when that changes.

Decides when to look again and whether what is found takes the place of what
is in use; `directory` judges it by itself. A bad state of the directory, a
half-written one, one that would cut workloads off, changes nothing but the
health's text and the log. Directory events only make it quick: every state is
also found by a look at regular intervals.

Source: kubernetes pkg/volume/util/atomic_writer.go (`..data`); istio
security/pkg/pki/ca/selfsignedcarootcertrotator.go (when expiry is near).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from watchfiles import awatch

from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.trust.directory import CaFiles, load_directory
from meshsigner.trust.layout import Fingerprint, fingerprint
from meshsigner.trust.pem import describe
from meshsigner.trust.succession import Roots, succession_faults

POLL_S = 5.0  # what no event tells: network file systems, a replaced mount, links to elsewhere
RETRY = timedelta(minutes=1)  # a refused state may become good by time alone
_SETTLE_MS = 200  # files of one change come one after the other
_NEAR_END = 5  # a warning from a fifth of the life on, where istiod's rotator acts


Events = AsyncGenerator[object, None]


def directory_events(directory: Path, poll_s: float) -> Events:
    """Yield at each change of a directory's files, at the latest after `poll_s` seconds.

    Raises:
        OSError: The directory is not there, or the kernel has no watch left.
    """
    return awatch(
        directory,
        watch_filter=None,
        step=_SETTLE_MS,
        rust_timeout=int(poll_s * 1_000),
        yield_on_timeout=True,
        recursive=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    """A state of the directory that was not taken."""

    problems: tuple[str, ...]
    again_at: datetime


class IssuerDirectory:
    """Follows a directory with a CA.

    Args:
        directory: In one of Istio's layouts.
        clock: Returns the time, UTC.
        upkeep: Called with the time before each look, in a thread: keeps a
            self-made CA fresh. May raise ConfigurationError.
        taken: Told of each CA that is taken, the first one too.
        announced: Roots that this server's other workers hand out, the one in
            use first: the first CA, too, may only follow on these.
        poll_s: Seconds between two looks without an event.
        events: Yields when files in a directory change, and after so many
            seconds without a change; OSError or RuntimeError when it cannot.
        further_faults: Says what else would cut workloads off, of the roots in use
            and of those that would follow; called in a thread.

    Raises:
        ConfigurationError: There is no good CA to begin with; it holds every
            problem.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], datetime],
        upkeep: Callable[[datetime], object] = lambda _: None,
        taken: Callable[[CaFiles], object] = lambda _: None,
        announced: Roots = (),
        poll_s: float = POLL_S,
        events: Callable[[Path, float], Events] = directory_events,
        further_faults: Callable[[Roots, Roots], Iterable[str]] = lambda *_: (),
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._upkeep = upkeep
        self._taken = taken
        self._poll_s = poll_s
        self._events = events
        self._further_faults = further_faults
        self._lock = asyncio.Lock()
        self._refused: _Refused | None = None
        self._warned: CaFiles | None = None
        now = clock()
        upkeep(now)
        self._seen: Fingerprint = fingerprint(directory)
        self._current = load_directory(directory, generation=1, now=now)
        if announced:
            self._check_succession(announced, self._current)
        self._tell(Event.ISSUER_LOADED)

    @property
    def current(self) -> CaFiles:
        """The CA in use; the same object until another takes its place."""
        return self._current

    def also_refuse(self, faults: Callable[[Roots, Roots], Iterable[str]]) -> None:
        """Have somebody else say, too, which change comes too early.

        Args:
            faults: As `further_faults`.
        """
        self._further_faults = faults

    async def watch(self) -> None:
        """Follow the directory, until cancelled."""
        async with aclosing(self._stirrings()) as stirrings:
            async for _ in stirrings:
                await self.look()

    async def look(self) -> bool:
        """Take what is in the directory, if it has changed and is good.

        Returns:
            True when another CA is in use now.
        """
        async with self._lock:
            try:
                found = await asyncio.to_thread(self._load_changed)
            except ConfigurationError as error:
                self._keep(error.problems)
                return False
            self._warn_of_end()
            return found is not None and self._take(found)

    def health(self, now: datetime) -> Health:
        """Say whether the CA in use can sign at a time, when it ends, and what is refused."""
        files = self._current
        subject = describe(files.issuer.certificate)
        detail = f"{subject}, generation {files.issuer.generation}, until {_utc(files.expires)}"
        if now > files.expires:
            detail = f"{subject} expired at {_utc(files.expires)}: renew it in {self._directory}"
        elif _near_end(files, now):
            detail += f": expires in {_days(files.expires - now)}, renew it"
        if self._refused is not None:
            detail += "; the directory as it is now is refused: " + " | ".join(
                self._refused.problems
            )
        return Health(name="issuer", ready=now <= files.expires, detail=detail)

    async def _stirrings(self) -> AsyncGenerator[None, None]:
        """Yield when something may have changed: at an event, or after `poll_s`."""
        told = False
        while True:
            watched = fingerprint(self._directory)[0]
            try:
                async with aclosing(self._events(self._directory, self._poll_s)) as events:
                    async for _ in events:
                        yield
                        if fingerprint(self._directory)[0] != watched:
                            break  # what is watched is no longer what stands there
            except (OSError, RuntimeError) as error:  # no directory, or no more inotify watches
                if not told:
                    get_logger().warning(Event.ISSUER_POLLED, cause=str(error))
                    told = True
                await asyncio.sleep(self._poll_s)
                yield

    def _load_changed(self) -> CaFiles | None:
        """Load the directory if it differs from the last look; runs in a thread.

        Raises:
            ConfigurationError: It cannot be taken.
        """
        now = self._clock()
        self._upkeep(now)
        seen = fingerprint(self._directory)
        waits = self._refused is None or now < self._refused.again_at
        if seen == self._seen and waits:
            return None
        self._seen = seen
        old = self._current.issuer
        files = load_directory(self._directory, generation=old.generation + 1, now=now)
        self._check_succession(old.trust_bundle.certificates, files)
        return files

    def _check_succession(self, before: Roots, files: CaFiles) -> None:
        after = files.issuer.trust_bundle.certificates
        faults = [
            f"{self._directory}: {fault}"
            for fault in (*succession_faults(before, after), *self._further_faults(before, after))
        ]
        if faults:
            raise ConfigurationError(*faults)

    def _take(self, files: CaFiles) -> bool:
        self._refused = None
        if _same(files, self._current):
            return False  # orders of the CA in use must not lose it for a touched file
        self._current = files
        self._tell(Event.ISSUER_REPLACED)
        return True

    def _tell(self, event: Event) -> None:
        files, log = self._current, get_logger()
        log.info(
            event,
            subject=describe(files.issuer.certificate),
            generation=files.issuer.generation,
            expires=files.expires.isoformat(),
            directory=str(self._directory),
        )
        for remark in files.warnings:
            log.warning(Event.ISSUER_REMARK, remark=remark)
        self._taken(files)

    def _keep(self, problems: tuple[str, ...]) -> None:
        """Remember why a state was refused; say it once, loudly."""
        told = self._refused is not None and self._refused.problems == problems
        self._refused = _Refused(problems=problems, again_at=self._clock() + RETRY)
        if not told:
            get_logger().error(Event.ISSUER_KEPT, problems=problems)

    def _warn_of_end(self) -> None:
        files = self._current
        if files is not self._warned and _near_end(files, self._clock()):
            self._warned = files
            get_logger().error(Event.ISSUER_EXPIRES, expires=files.expires.isoformat())


def _same(one: CaFiles, other: CaFiles) -> bool:
    return (
        one.issuer.certificate == other.issuer.certificate
        and one.issuer.chain_pem == other.issuer.chain_pem
        and one.issuer.trust_bundle == other.issuer.trust_bundle
    )


def _near_end(files: CaFiles, now: datetime) -> bool:
    life = files.expires - files.issuer.certificate.not_valid_before_utc
    return files.expires - now < life / _NEAR_END


def _days(span: timedelta) -> str:
    return f"{span.days} days" if span.days > 1 else f"{span.total_seconds() / 3_600:.1f} hours"


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
