"""The public keys of one issuer in one cluster, kept fresh.

Decides when keys are read again and what holds in between: keys once taken
stay when their source is away, and a key id that nobody has seen costs one
refresh, not one per token. Where they come from is `key_sources`, what a set
may hold `key_sets`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from meshsigner.authn.clock import Clock, utc_now
from meshsigner.authn.key_sets import InvalidKeySet, KeyOwners, KeySet, parse_key_set
from meshsigner.authn.key_sources import KeySource
from meshsigner.authn.keys import VerifyingKey
from meshsigner.errors import BackendUnavailable, ConfigurationError, Unauthenticated
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.ports import Parked

RETRY_S = 5.0
COOLDOWN = timedelta(seconds=10)
TIMEOUT = timedelta(seconds=5)  # half of what a caller waits at most

_FOREIGN = "belongs to another cluster, and clusters share no keys"


class PublicKeys:
    """Keys by id, for one authenticator.

    Args:
        cluster: Id of the cluster whose keys they are.
        source: Where they are read from; belongs to this object from now on.
        owners: Who owns which key, the same object for all clusters.
        cooldown: How long after a refresh an unknown key id causes no other one.
        timeout: Longest time for one refresh.
        clock: Returns the time, UTC.
    """

    def __init__(
        self,
        *,
        cluster: str,
        source: KeySource,
        owners: KeyOwners,
        cooldown: timedelta = COOLDOWN,
        timeout: timedelta = TIMEOUT,
        clock: Clock = utc_now,
    ) -> None:
        self._cluster = cluster
        self._source = source
        self._owners = owners
        self._cooldown = cooldown
        self._timeout_s = timeout.total_seconds()
        self._clock = clock
        self._refreshed_at: datetime | None = None
        self._problem: str | None = "not read yet"
        self._foreign: frozenset[str] = frozenset()
        self._flight: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self.current = KeySet(keys={})

    def find(self, key_id: str, now: datetime) -> VerifyingKey | Parked:
        """Return a key, or what must be awaited to know whether there is one.

        Args:
            key_id: The `kid` of a token.
            now: The turn's time.

        Raises:
            Unauthenticated: The keys are fresh, and there is none of this id.
            BackendUnavailable: The keys could not be refreshed a moment ago.
        """
        key = self.current.keys.get(key_id)
        if key is not None:
            return key
        if self._refreshed_at is None or now - self._refreshed_at >= self._cooldown:
            return Parked(
                key=(self._cluster, self._source.where, key_id),
                fetch=self.refresh,
            )
        if self._problem is not None:
            raise BackendUnavailable(self._problem)
        raise Unauthenticated("the token's key id is unknown")

    async def refresh(self) -> None:
        """Read the keys again; all who ask meanwhile share one read.

        Raises:
            BackendUnavailable: They could not be read; the old ones are kept.
        """
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._refresh())
        # one waiter's cancellation must not end what others wait for
        await asyncio.shield(self._flight)
        if self._problem is not None:
            raise BackendUnavailable(self._problem)

    async def start(self) -> None:
        """Read the keys and keep them fresh from now on.

        A source that is away is no reason not to start: it is tried again.

        Raises:
            ConfigurationError: A key is another cluster's too.
        """
        await self._try_refresh()
        if self._foreign:
            raise ConfigurationError(
                *(
                    f"cluster {self._cluster}: {self._source.where}: the key with thumbprint "
                    f"{thumbprint} {_FOREIGN}: give each cluster a key of its own"
                    for thumbprint in sorted(self._foreign)
                ),
            )
        self._loop = asyncio.create_task(self._keep_fresh())

    async def aclose(self) -> None:
        """Stop refreshing, and own no keys any more."""
        tasks = [task for task in (self._loop, self._flight) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._owners.release(self)
        await self._source.aclose()

    def health(self) -> Health:
        """Say whether there are keys, and whether they are fresh."""
        name = f"authn/{self._cluster}/jwks"
        if self._loop is not None and self._loop.done():
            return Health(name=name, ready=False, detail="the refresh has stopped, restart")
        keys = self.current.keys
        detail = "; ".join(
            [f"{len(keys)} keys from {self._source.where}"]
            + ([f"not refreshed: {self._problem}"] if self._problem is not None else [])
            + [f"left out: {text}" for text in self.current.ignored],
        )
        return Health(name=name, ready=bool(keys), detail=detail)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s())
            await self._try_refresh()

    def _pause_s(self) -> float:
        every_s = self._source.every_s
        return every_s if self._problem is None else min(RETRY_S, every_s)

    async def _try_refresh(self) -> None:
        with contextlib.suppress(BackendUnavailable):  # logged and shown by health already
            await self.refresh()

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                keys = parse_key_set(await self._source.fetch())
        except (BackendUnavailable, InvalidKeySet, TimeoutError) as error:
            self._keep(str(error) or f"no answer within {self._timeout_s:g} s")
        else:
            self._take(keys)
        self._refreshed_at = self._clock()

    def _keep(self, problem: str) -> None:
        if problem != self._problem:
            self._tell(get_logger().error, Event.TOKEN_KEYS_KEPT, problem=problem)
        self._problem = problem

    def _take(self, keys: KeySet) -> None:
        self._foreign = self._owners.claim(self, self._cluster, keys.thumbprints())
        if self._foreign:
            keys = keys.without(self._foreign, _FOREIGN)
        changed = not keys.same_as(self.current)
        if changed:
            self.current = keys
        if changed or self._problem is not None:
            log = get_logger().error if keys.ignored else get_logger().info
            self._tell(log, Event.TOKEN_KEYS_TAKEN, count=len(keys.keys), ignored=keys.ignored)
        self._problem = None

    def _tell(self, log: Callable[..., object], event: Event, **fields: object) -> None:
        log(event, cluster=self._cluster, source=self._source.where, **fields)
