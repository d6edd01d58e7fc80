"""Deletes rows whose retention is over, in slices, by one process at a time.

Runs beside the writers on a connection of its own: whoever finds the lock taken
leaves the work to whoever has it. What a commit of a slice costs, no caller
waits for.
"""

import asyncio
import time
from datetime import datetime

from meshsigner.errors import RecordFailed
from meshsigner.inventory.postgres_faults import FAULTS, explain
from meshsigner.inventory.postgres_schema import LOCK_SEED, check_version
from meshsigner.inventory.postgres_server import PostgresServer, Session, connect
from meshsigner.inventory.postgres_statements import delete_expired

SLICE_ROWS = 1_000
_REST_S = 0.05  # between two slices, in which commits have the disk to themselves
_STATEMENT_S = 10.0
_LOCK = f"SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '/rest', {LOCK_SEED}))"


async def tend(server: PostgresServer, *, before: datetime, patience_s: float) -> int | None:
    """Delete rows of certificates that expired long enough ago.

    Args:
        server: Where.
        before: Expired before this time.
        patience_s: Longest time for this, in seconds; what is left is for the next.

    Returns:
        How many were deleted; None when another process is at it.

    Raises:
        RecordFailed: It could not; what was deleted is, the rest is as it was.
    """
    try:
        session = await connect(server, statement_s=_STATEMENT_S)
        try:
            await check_version(session, server.schema)
            if not await session.fetchval(_LOCK):
                return None
            return await _delete(session, before, time.monotonic() + patience_s)
        finally:
            session.terminate()  # and with it the lock
    except FAULTS as error:
        raise RecordFailed(explain(error, server)) from error


async def _delete(session: Session, before: datetime, end_s: float) -> int:
    deleted, last = 0, SLICE_ROWS
    while last == SLICE_ROWS and time.monotonic() < end_s:
        last = await delete_expired(session, before, SLICE_ROWS)
        deleted += last
        await asyncio.sleep(_REST_S)
    return deleted
