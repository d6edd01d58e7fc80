"""The statements that PostgreSQL is given, each one exchange whatever the number of rows.

A commit's rows travel as one array a column: the statement stays the same for
any number of rows, so that it is prepared once, and the server parses nothing.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import asyncpg

from meshsigner.inventory.columns import COLUMNS, Value, from_row, to_row
from meshsigner.inventory.faults import Unusable
from meshsigner.inventory.postgres_schema import LOCK_SEED
from meshsigner.inventory.postgres_server import Session
from meshsigner.model import Intent, Record

Rows = tuple[list[Any], ...]  # one list a column, in the order of `COLUMNS`

_VALUES_OF = attrgetter(*COLUMNS)
_TIMES = {"not_before", "not_after", "issued_at"}
_TYPES = {
    **dict.fromkeys(_TIMES, "timestamptz"),
    "policy_generation": "bigint",
    "delivered": "boolean",
    "certificate_der": "bytea",
}
_ARRAYS = ", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(COLUMNS, 1))
# names and types only, no value is part of the text
_INSERT = f"INSERT INTO certificates ({', '.join(COLUMNS)}) SELECT * FROM unnest({_ARRAYS})"  # noqa: S608
_INSERT_MISSING = f"{_INSERT} ON CONFLICT (serial, issuer) DO NOTHING"
_MARK_UNDELIVERED = "UPDATE certificates SET delivered = false WHERE serial = ANY($1::text[])"
# What is found must be the very certificate: a serial alone could be somebody else's.
_COUNT = """
    SELECT count(*) FROM certificates AS stored
    JOIN unnest($1::text[], $2::text[], $3::bytea[]) AS wanted (serial, issuer, der)
    ON stored.serial = wanted.serial AND stored.issuer = wanted.issuer
    AND stored.certificate_der = wanted.der
"""
_PROBE = """
    INSERT INTO probe VALUES (1, now())
    ON CONFLICT (id) DO UPDATE SET written_at = excluded.written_at
    RETURNING pg_total_relation_size('certificates') AS size_bytes,
              current_setting('synchronous_standby_names') AS standbys,
              has_table_privilege('certificates', 'INSERT') AS may_insert
"""
_DELETE_EXPIRED = """
    DELETE FROM certificates WHERE id IN (
        SELECT id FROM certificates WHERE not_after < $1 ORDER BY not_after LIMIT $2
    )
"""
_NOTE = """
    INSERT INTO intents (token, backend, at, owner, draft)
    SELECT token, backend, at, $5, draft
    FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
    AS new (token, backend, at, draft)
    ON CONFLICT (token) DO NOTHING
"""
_SETTLE = "DELETE FROM intents WHERE token = ANY($1::text[])"
# An owner holds its lock as long as it lives; whoever takes over owns from then on.
_OWNER_LOCK = f"hashtextextended(current_schema() || '/owner/' || {{}}, {LOCK_SEED})"
_HOLD_OWNER_LOCK = f"SELECT pg_try_advisory_lock({_OWNER_LOCK.format('$1')})"
_TAKE_OVER = f"""
    UPDATE intents SET owner = $1
    WHERE owner IN (
        SELECT owner FROM (SELECT DISTINCT owner FROM intents) AS owners
        WHERE owner = $1 OR pg_try_advisory_xact_lock({_OWNER_LOCK.format("owner")})
    )
    RETURNING token, backend, at, draft
"""  # noqa: S608 - constants only
_NO_RECORD_YET = b""


class NotOurs(Unusable):
    """A row of the same serial and issuer holds another certificate."""

    def __init__(self) -> None:
        super().__init__("another certificate of the same serial and issuer is recorded already")


def to_columns(records: Sequence[Record]) -> Rows:
    """Turn records into one list a column."""
    if not records:
        return tuple([] for _ in COLUMNS)
    return tuple(list(column) for column in zip(*map(_VALUES_OF, records), strict=True))


def storable(rows: Rows) -> Rows:
    """Return rows whose text PostgreSQL can hold: no NUL, nothing that is not UTF-8."""
    return tuple([_storable(value) for value in column] for column in rows)


async def store(session: Session, rows: Rows, undelivered: Sequence[str]) -> None:
    """Write rows and marks in one commit.

    Raises:
        asyncpg.UniqueViolationError: A row of that serial and issuer is there.
    """
    if not undelivered:
        await session.execute(_INSERT, *rows)  # one statement is a commit of its own
        return
    async with session.transaction():
        if rows[0]:
            await session.execute(_INSERT, *rows)
        await session.execute(_MARK_UNDELIVERED, list(undelivered))


async def store_missing(session: Session, rows: Rows, undelivered: Sequence[str]) -> None:
    """Write what an earlier try may have written or not; a row is never doubled.

    A try that is still under way elsewhere holds its rows: this waits for its
    end. The probe's row makes it a commit that waits for synchronous standbys
    even when nothing is missing, for a row that is found may not have reached
    them yet.

    Raises:
        NotOurs: One of the serials is another certificate's.
    """
    async with session.transaction():
        if rows[0]:
            await session.execute(_INSERT_MISSING, *rows)
            await _check_stored(session, rows)
        if undelivered:
            await session.execute(_MARK_UNDELIVERED, list(undelivered))
        await session.execute(_PROBE)


async def probe(session: Session) -> asyncpg.Record:
    """Commit a row and tell how the store is: `size_bytes`, `standbys`, `may_insert`."""
    return await session.fetchrow(_PROBE)


async def delete_expired(session: Session, before: datetime, at_most: int) -> int:
    """Delete rows of expired certificates, the longest expired first; return how many."""
    answer = await session.execute(_DELETE_EXPIRED, before, at_most)
    return int(answer.rpartition(" ")[2])


async def hold_owner_lock(session: Session, owner: str) -> None:
    """Show as long as this session lives that the owner of intents lives."""
    await session.execute(_HOLD_OWNER_LOCK, owner)


async def note(
    session: Session, owner: str, intents: Sequence[Intent], settled: Sequence[str]
) -> None:
    """Write intents and delete settled ones in one commit; may be repeated."""
    async with session.transaction():
        await session.execute(
            _NOTE,
            [intent.token for intent in intents],
            [intent.backend for intent in intents],
            [intent.at for intent in intents],
            [_draft_text(intent.draft) for intent in intents],
            owner,
        )
        await session.execute(_SETTLE, list(settled))


async def take_over(session: Session, owner: str) -> list[Intent]:
    """Make the intents of owners that live no more ours, and return all of ours."""
    rows = await session.fetch(_TAKE_OVER, owner)
    intents = [
        Intent(token=row[0], backend=row[1], at=row[2], draft=_draft(row[3])) for row in rows
    ]
    return sorted(intents, key=lambda intent: intent.at)


async def _check_stored(session: Session, rows: Rows) -> None:
    columns = dict(zip(COLUMNS, rows, strict=True))
    wanted = (columns["serial"], columns["issuer"], columns["certificate_der"])
    if await session.fetchval(_COUNT, *wanted) != len(rows[0]):
        raise NotOurs


def _storable(value: object) -> object:
    if not isinstance(value, str):
        return value
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _draft_text(draft: Record) -> str:
    values: dict[str, Value] = dict(zip(COLUMNS, to_row(draft), strict=True))
    del values["certificate_der"]
    return json.dumps(values)


def _draft(text: str) -> Record:
    values = json.loads(text)
    return from_row([values.get(name, _NO_RECORD_YET) for name in COLUMNS])
