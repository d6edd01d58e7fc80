"""Intents in a database: what a costly CA was asked for, until the outcome is known.

The table is `schema`'s. Decides what is open: an intent that is not settled and whose
certificate has no row. The second is looked at because a crash may come
between the commit of a row and that of its intent's end.

Source: docs/audit-log.md, "Intents".
"""

import json
import sqlite3
from collections.abc import Sequence

from meshsigner.inventory.columns import COLUMNS, from_row, from_us, to_row, to_us
from meshsigner.inventory.connection import transaction
from meshsigner.model import Intent

_INSERT = "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM intents WHERE token IN (SELECT value FROM json_each(?))"
_OPEN = """
    SELECT token, backend, at, draft FROM intents AS i
    WHERE NOT EXISTS (
        SELECT 1 FROM certificates AS c
        WHERE c.identity = i.identity AND c.issued_at >= i.at
            AND c.csr_sha256 = i.csr_sha256 AND c.backend = i.backend
    )
    ORDER BY at
"""
_CERTIFICATE = len(COLUMNS) - 1  # its column, empty in every draft


def note(connection: sqlite3.Connection, intents: Sequence[Intent], settled: Sequence[str]) -> None:
    """Write intents and the ends of others in one commit.

    Args:
        connection: In autocommit mode.
        intents: New ones.
        settled: Tokens whose outcome is known.

    Raises:
        sqlite3.Error: Nothing was written.
    """
    with transaction(connection):
        connection.executemany(_INSERT, [to_intent_row(intent) for intent in intents])
        if settled:
            connection.execute(_DELETE, (json.dumps(list(settled)),))


def open_intents(connection: sqlite3.Connection) -> list[Intent]:
    """Return the open intents, oldest first.

    Raises:
        sqlite3.Error: They cannot be read.
    """
    return [from_intent_row(*row) for row in connection.execute(_OPEN)]


def to_intent_row(intent: Intent) -> tuple[str, str, int, str, str, str]:
    """Return the values of an intent in the order of its columns."""
    draft = intent.draft
    values = to_row(draft)[:_CERTIFICATE]
    return (
        intent.token,
        intent.backend,
        to_us(intent.at),
        draft.identity,
        draft.csr_sha256,
        json.dumps(values),
    )


def from_intent_row(token: str, backend: str, at: int, draft: str) -> Intent:
    """Return the intent that these columns hold."""
    return Intent(
        token=token,
        backend=backend,
        at=from_us(at),
        draft=from_row([*json.loads(draft), b""]),
    )
