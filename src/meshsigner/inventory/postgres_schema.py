"""The PostgreSQL form of the inventory: its tables, and how an older one becomes today's.

Many processes may start at once, of several versions: a lock lets one migrate
while the others wait. A step, once released, is never changed, and must leave
a table that the version before can still write: replicas are updated one after
the other.
"""

from collections.abc import Sequence

from meshsigner.inventory.faults import Unusable
from meshsigner.inventory.postgres_server import Session

Step = tuple[str, ...]  # statements that lead from one version to the next

# "MSIG": keeps our advisory locks apart from other programs'
LOCK_SEED = 0x4D53_4947
_LOCK = "hashtextextended($1::text || '/migrate', $2::bigint)"
_PATIENCE = "60s"  # for another process that migrates

_VERSION_1: Step = (
    """
    CREATE TABLE certificates (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        serial text NOT NULL,
        identity text NOT NULL,
        cluster text NOT NULL,
        namespace text NOT NULL,
        pod_name text NOT NULL,
        pod_uid text NOT NULL,
        node_name text NOT NULL,
        credential_id text NOT NULL,
        impersonator text NOT NULL,
        auth_method text NOT NULL,
        issuer text NOT NULL,
        backend text NOT NULL,
        public_key_sha256 text NOT NULL,
        csr_sha256 text NOT NULL,
        not_before timestamptz NOT NULL,
        not_after timestamptz NOT NULL,
        policy_generation bigint NOT NULL,
        client_address text NOT NULL,
        issued_at timestamptz NOT NULL,
        delivered boolean NOT NULL,
        certificate_der bytea NOT NULL
    )
    """,
    # RFC 5280 4.1.2.2: a serial is unique per issuer, no further
    "CREATE UNIQUE INDEX certificates_serial ON certificates (serial, issuer)",
    "CREATE INDEX certificates_identity ON certificates (identity, issued_at)",
    "CREATE INDEX certificates_issued_at ON certificates (issued_at)",
    "CREATE INDEX certificates_not_after ON certificates (not_after)",
    # one row that a probe rewrites, to prove that a commit reaches the disk
    "CREATE TABLE probe (id integer PRIMARY KEY, written_at timestamptz NOT NULL)",
    # what a remote CA was asked and is not known to have answered
    """
    CREATE TABLE intents (
        token text PRIMARY KEY,
        backend text NOT NULL,
        at timestamptz NOT NULL,
        owner text NOT NULL,
        draft text NOT NULL
    )
    """,
)

STEPS: tuple[Step, ...] = (_VERSION_1,)


class WrongSchema(Unusable):
    """The tables are none of ours, or of a version that this code cannot use."""


async def migrate(session: Session, schema: str, steps: Sequence[Step] = STEPS) -> None:
    """Bring a database to today's version, in one transaction.

    Args:
        session: Its `search_path` is the schema alone.
        schema: Name of the schema; it is made when it is not there.
        steps: The way from version 0, an empty schema, to today's.

    Raises:
        WrongSchema: Another program's tables, or ones newer than `steps`.
        asyncpg.PostgresError: A step failed; the database is as it was.
    """
    if await _version(session, schema, steps) == len(steps):
        return
    async with session.transaction():
        # others wait for this lock longer than a statement may take else
        await session.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
        await session.execute("SET LOCAL statement_timeout = 0")
        # constants only, no value is part of the text
        await session.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", schema, LOCK_SEED)
        await _make_schema(session, schema)
        for number in range(await _version(session, schema, steps), len(steps)):
            for statement in steps[number]:
                await session.execute(statement)
            await session.execute("INSERT INTO schema_version VALUES ($1, now())", number + 1)


async def check_version(session: Session, schema: str, steps: Sequence[Step] = STEPS) -> None:
    """Check that a database has today's version; for those who may not migrate.

    Raises:
        WrongSchema: It has not; the text says what to do.
    """
    version = await _version(session, schema, steps)
    if version < len(steps):
        msg = (
            f"schema {schema} has version {version}, this program reads {len(steps)}: "
            "start the server once, it migrates the database"
        )
        raise WrongSchema(msg)


async def _make_schema(session: Session, schema: str) -> None:
    # CREATE SCHEMA IF NOT EXISTS asks for the right to create even when it is there.
    if not await session.fetchval("SELECT to_regnamespace($1) IS NOT NULL", _quoted(schema)):
        await session.execute(f"CREATE SCHEMA {_quoted(schema)}")
    await session.execute(
        "CREATE TABLE IF NOT EXISTS schema_version ("
        "version integer PRIMARY KEY, migrated_at timestamptz NOT NULL)"
    )


async def _version(session: Session, schema: str, steps: Sequence[Step]) -> int:
    """Return the version of a schema that is ours, 0 for an empty one."""
    version = 0
    if await session.fetchval("SELECT to_regclass('schema_version') IS NOT NULL"):
        version = await session.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
    elif await session.fetchval("SELECT to_regclass('certificates') IS NOT NULL"):
        msg = f"schema {schema} holds tables of another program: name another schema"
        raise WrongSchema(msg)
    if version > len(steps):
        msg = (
            f"schema {schema} has version {version}, this program knows up to {len(steps)}: "
            "run the newer meshsigner that wrote it, or name another schema"
        )
        raise WrongSchema(msg)
    return int(version)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
