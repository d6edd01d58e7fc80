"""The SQLite form of the inventory: its tables, and how an older file becomes today's.

Decides which files are ours, and of which version. A step, once released, is
never changed: what must differ is a further step.
"""

import sqlite3
from collections.abc import Sequence

from meshsigner.inventory.connection import transaction
from meshsigner.inventory.faults import Unusable

# "MSIG": marks the file as ours for `file` and against other programs' databases
APPLICATION_ID = 0x4D53_4947

Step = tuple[str, ...]  # statements that lead from one version to the next

_VERSION_1: Step = (
    """
    CREATE TABLE certificates (
        id INTEGER PRIMARY KEY,
        serial TEXT NOT NULL,
        identity TEXT NOT NULL,
        cluster TEXT NOT NULL,
        namespace TEXT NOT NULL,
        pod_name TEXT NOT NULL,
        pod_uid TEXT NOT NULL,
        node_name TEXT NOT NULL,
        credential_id TEXT NOT NULL,
        impersonator TEXT NOT NULL,
        auth_method TEXT NOT NULL,
        issuer TEXT NOT NULL,
        backend TEXT NOT NULL,
        public_key_sha256 TEXT NOT NULL,
        csr_sha256 TEXT NOT NULL,
        not_before INTEGER NOT NULL,
        not_after INTEGER NOT NULL,
        policy_generation INTEGER NOT NULL,
        client_address TEXT NOT NULL,
        issued_at INTEGER NOT NULL,
        delivered INTEGER NOT NULL,
        certificate_der BLOB NOT NULL
    )
    """,
    # RFC 5280 4.1.2.2: a serial is unique per issuer, no further
    "CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer)",
    "CREATE INDEX certificates_identity ON certificates (identity, issued_at)",
    "CREATE INDEX certificates_issued_at ON certificates (issued_at)",
    "CREATE INDEX certificates_not_after ON certificates (not_after)",
    # one row that a probe rewrites, to prove that a commit reaches the disk
    """
    CREATE TABLE probe (
        id INTEGER PRIMARY KEY,
        written_at INTEGER NOT NULL,
        filler BLOB NOT NULL
    )
    """,
)

# A copy of what `intents` had when this was released, as every step is.
_VERSION_2: Step = (
    """
    CREATE TABLE intents (
        token TEXT PRIMARY KEY,
        backend TEXT NOT NULL,
        at INTEGER NOT NULL,
        identity TEXT NOT NULL,
        csr_sha256 TEXT NOT NULL,
        draft TEXT NOT NULL
    )
    """,
)

STEPS: tuple[Step, ...] = (_VERSION_1, _VERSION_2)


class WrongSchema(Unusable):
    """The file is no inventory of ours, or of a version that this code cannot use."""


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Bring a database to today's version, in one transaction.

    Args:
        connection: In autocommit mode, no transaction open.
        steps: The way from version 0, an empty file, to today's.

    Raises:
        WrongSchema: Another program's file, or one newer than `steps`.
        sqlite3.Error: A step failed; the file is as it was.
    """
    if _version(connection, steps) == len(steps):
        return
    with transaction(connection):
        # once more: under the write lock nobody else can have migrated meanwhile
        for step in steps[_version(connection, steps) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")


def check_version(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Check that a database has today's version; for those who may not migrate.

    Raises:
        WrongSchema: It has not; the text says what to do.
    """
    version = _version(connection, steps)
    if version < len(steps):
        msg = (
            f"it has schema version {version}, this program reads {len(steps)}: "
            "start the server once, it migrates the file"
        )
        raise WrongSchema(msg)


def _version(connection: sqlite3.Connection, steps: Sequence[Step]) -> int:
    """Return the version of a file that is ours, 0 for an empty one."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application != APPLICATION_ID and (application or version or tables):
        msg = "it is a database of another program: name another file"
        raise WrongSchema(msg)
    if version > len(steps):
        msg = (
            f"it has schema version {version}, this program knows up to {len(steps)}: "
            "run the newer meshsigner that wrote it, or name another file"
        )
        raise WrongSchema(msg)
    return version
