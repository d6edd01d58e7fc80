"""The inventory in PostgreSQL: `ports.Inventory` for any number of workers and replicas.

Talks to the server by one connection, in an event loop of its own that runs
while the recorder's thread calls. What it promises: rows handed to `write` are
committed and safe when it returns, none twice; a commit whose outcome a broken
connection left open is looked up at whatever server then answers, before it is
told as failed. While the server is away it says so at once: the recorder's
callers come again within a second (docs/adr/0029).
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import asyncpg
import uvloop

from meshsigner.errors import RecordFailed
from meshsigner.inventory import postgres_schema as schema
from meshsigner.inventory import postgres_statements as statements
from meshsigner.inventory.faults import Unusable
from meshsigner.inventory.postgres_faults import FAULTS, Away, explain, is_open, is_passing
from meshsigner.inventory.postgres_server import PostgresServer, Session, check_settings, connect
from meshsigner.model import Health, Intent, Record

DEFAULT_TIMEOUT_S = 4.0
# Of the time for a commit: the server gives a statement up first, so that its
# outcome is known; then we do, and look it up in what is left.
_STATEMENT_SHARE = 0.4
_FIRST_TRY_SHARE = 0.5
_OPEN_S = 90.0  # with a migration, or waiting for another's
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_MAY_NOT = "this user may not insert: give it INSERT on all tables of the schema"

T = TypeVar("T")
Use = Callable[[Session], Awaitable[T]]


class PostgresInventory:
    """A worker's connection to the inventory; one thread at a time may use it.

    The connection is made at the first use, and anew after it broke.

    Args:
        server: Where.
        timeout_s: Longest wait for one commit, its look-up included, in seconds.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        server: PostgresServer,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._clock = clock
        self._owner = secrets.token_hex(16)
        self._runner: asyncio.Runner | None = None
        self._session: Session | None = None
        self._pause_s = 0.0
        self._closed_until_s = 0.0
        self._why_closed: Away | None = None
        self._health = Health(name="inventory", ready=False, detail="not opened yet")

    def write(self, records: Sequence[Record], undelivered: Sequence[str]) -> None:
        """Store rows in one commit; on return they survive a crash of the server.

        Args:
            records: New rows.
            undelivered: Serials, stored before or among `records`, whose caller
                was gone when the answer was ready.

        Raises:
            RecordFailed: Nothing of this call was stored. Should the server stay
                away while the outcome is open, that cannot be known: then these
                rows may be found.
        """
        if records or undelivered:
            self._run(self._write(statements.to_columns(records), undelivered))

    def note(self, intents: Sequence[Intent], settled: Sequence[str]) -> None:
        """Store in one commit what a remote CA is about to be asked, and what is settled.

        Raises:
            RecordFailed: Nothing of this call was stored.
        """
        use = partial(statements.note, owner=self._owner, intents=intents, settled=settled)
        self._run(self._do(use, again=use))

    def open_intents(self) -> Sequence[Intent]:
        """Return the intents without outcome, oldest first, of this and of dead processes.

        Those of processes that live are theirs to settle; those of dead ones are
        this one's from now on.

        Raises:
            RecordFailed: They cannot be read.
        """
        use = partial(statements.take_over, owner=self._owner)
        return self._run(self._do(use, again=use))

    def probe(self) -> None:
        """Prove that a row could be written now.

        Raises:
            RecordFailed: It could not; the text says why and what to do.
        """
        self._run(self._probe())

    def health(self) -> Health:
        """Say whether rows can be written and how large the store is.

        As of the last use: any thread may ask, for nothing is touched.
        """
        return self._health

    def close(self) -> None:
        """Release the store."""
        self._drop()
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    # What runs in the loop.

    async def _write(self, rows: statements.Rows, undelivered: Sequence[str]) -> None:
        try:
            await self._write_rows(rows, undelivered)
        except (asyncpg.DataError, UnicodeError):
            # One caller's odd token must not cost the others their certificates.
            await self._write_rows(statements.storable(rows), undelivered)

    async def _write_rows(self, rows: statements.Rows, undelivered: Sequence[str]) -> None:
        use = partial(statements.store, rows=rows, undelivered=undelivered)
        again = partial(statements.store_missing, rows=rows, undelivered=undelivered)
        try:
            await self._do(use, again=again)
        except asyncpg.UniqueViolationError:
            # Rows that are there to the byte are stored: two have settled the same intent.
            await self._do(again, again=again)
        if not self._health.ready:
            self._tell(ready=True, detail="is writable again")

    async def _do(self, use: Use[T], *, again: Use[T]) -> T:
        """Use the store; if the outcome is left open, find out.

        Args:
            use: What to do.
            again: The same, but right also if it has been done before.
        """
        end_s = self._clock() + self._timeout_s
        session = await self._lend()
        try:
            async with asyncio.timeout(self._timeout_s * _FIRST_TRY_SHARE):
                return await use(session)
        except FAULTS as error:
            if not is_open(error):
                raise
            self._drop()
        return await self._find_out(again, end_s)

    async def _find_out(self, again: Use[T], end_s: float) -> T:
        """Do it again until a server answers or the time is over."""
        pause_s = _FIRST_PAUSE_S / 2
        while True:
            try:
                async with asyncio.timeout(max(end_s - self._clock(), _FIRST_PAUSE_S)):
                    return await again(await self._open())
            except FAULTS as error:
                self._drop()
                if not is_passing(error) or self._clock() + pause_s > end_s:
                    self._stay_away(error)
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _probe(self) -> None:
        session = await self._lend()
        try:
            async with asyncio.timeout(self._timeout_s):
                await check_settings(session)
                found = await statements.probe(session)
        except FAULTS as error:
            if is_open(error) or isinstance(error, Unusable):
                self._drop()
            raise
        if not found["may_insert"]:
            raise Unusable(_MAY_NOT)
        standbys = found["standbys"] or "none, what is not yet on a standby dies with its primary"
        size = f"{found['size_bytes'] / 1024**2:.0f} MiB"
        self._tell(ready=True, detail=f"is writable, {size}; synchronous standbys: {standbys}")

    async def _lend(self) -> Session:
        """Return the session, a new one if need be; while the server is away say so at once."""
        if self._session is not None and not self._session.is_closed():
            return self._session
        if self._why_closed is not None and self._clock() < self._closed_until_s:
            raise self._why_closed.with_traceback(None)
        try:
            return await self._open()
        except FAULTS as error:
            self._drop()
            self._stay_away(error)
            raise

    async def _open(self) -> Session:
        self._session = await connect(self._server, statement_s=self._timeout_s * _STATEMENT_SHARE)
        async with asyncio.timeout(_OPEN_S):
            await schema.migrate(self._session, self._server.schema)
            await statements.hold_owner_lock(self._session, self._owner)
        self._pause_s, self._why_closed = 0.0, None
        return self._session

    def _stay_away(self, error: BaseException) -> None:
        """Try no more for a moment, longer each time."""
        self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._closed_until_s = self._clock() + self._pause_s
        self._why_closed = Away(explain(error, self._server), may_pass=is_passing(error))

    # What runs in the thread.

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in the loop, and put into words what goes wrong."""
        if self._runner is None:
            self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        try:
            return self._runner.run(work)
        except FAULTS as error:
            text = explain(error, self._server)
            self._health = Health(name="inventory", ready=False, detail=text)
            raise RecordFailed(text, may_pass=is_passing(error)) from error

    def _drop(self) -> None:
        if self._session is not None:
            self._session.terminate()
            self._session = None

    def _tell(self, *, ready: bool, detail: str) -> None:
        self._health = Health(name="inventory", ready=ready, detail=f"{self._server} {detail}")
