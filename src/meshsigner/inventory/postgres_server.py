"""Opens a session with PostgreSQL, and refuses one that could lose rows.

Decides how a server is reached, in which order, how both prove who they are,
and what its settings must be; what is asked of it is `postgres_statements`'.

Source: PostgreSQL documentation, libpq-ssl (sslmode),
runtime-config-wal (fsync, synchronous_commit).
"""

import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import asyncpg

from meshsigner.inventory.faults import Unusable

Session: TypeAlias = Any  # asyncpg.Connection: the library has no types
SslMode = Literal["verify-full", "verify-ca", "disable"]

OLDEST_VERSION = 130_000  # server_version_num; what PostgreSQL itself still looks after, and one
CONNECT_S = 2.0  # a host that is there answers within ms; another may stand behind it
_MAX_PASSWORD_BYTES = 4_096
_SAFE_COMMITS = {"on", "remote_apply"}  # the rest let a commit return before it is safe

# What one host may answer while another stands ready.
_NOT_THERE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

_CHECK = """
    SELECT current_setting('server_version_num')::int AS version,
           current_setting('server_encoding') AS encoding,
           current_setting('fsync') AS fsync,
           current_setting('synchronous_commit') AS commit,
           pg_is_in_recovery() AS standby
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """Where the database is and how it is entered.

    Attributes:
        hosts: (host, port) pairs, tried in this order; a host that begins with
            `/` is the directory of a Unix socket.
        user: Role name.
        database: Database name.
        schema: Schema that holds the tables.
        password_file: File with the password, read at each connection; None
            where the server wants none.
        ssl_mode: `verify-full` also compares the host's name.
        ca_file: PEM roots for the server's certificate; None for the system's.
        certificate_file: Our own certificate for it, PEM.
        key_file: Its key, PEM.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str
    database: str
    schema: str
    password_file: Path | None = None
    ssl_mode: SslMode = "verify-full"
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __str__(self) -> str:
        """Return where it is, as a URL; there is no secret in it."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"postgresql://{self.user}@{hosts}/{self.database}"


async def connect(
    server: PostgresServer, *, statement_s: float, read_only: bool = False
) -> Session:
    """Open a session at the first host that can serve.

    Args:
        server: Where.
        statement_s: Longest time for a statement or a lock, in seconds.
        read_only: Only to read: a standby will do, and nothing can be written.

    Raises:
        OSError: No host can be reached, or not with TLS as it must be.
        asyncpg.PostgresError: None lets us in or can be written.
        TimeoutError: The last one does not answer.
        Unusable: A server whose settings could lose rows, or a file that cannot be read.
    """
    options = _options(server, statement_s, read_only=read_only)
    failed: list[BaseException] = []
    for host, port in server.hosts:
        try:
            return await _open(host, port, options, read_only=read_only)
        except _NOT_THERE as error:
            error.add_note(f"{host}:{port}")
            failed.append(error)
    # The most telling: a server that answers knows more than one that is away.
    failed.sort(key=lambda error: isinstance(error, OSError))
    raise failed[0]


async def _open(host: str, port: int, options: dict[str, Any], *, read_only: bool) -> Session:
    wanted = "any" if read_only else "read-write"
    session = await asyncpg.connect(host=host, port=port, target_session_attrs=wanted, **options)
    with ExitStack() as undo:
        undo.callback(session.terminate)
        if not read_only:
            await check_settings(session)
        undo.pop_all()
    return session


async def check_settings(session: Session) -> None:
    """Check that what is committed there is safe.

    Raises:
        Unusable: It would not be; the text says which setting and what to do.
        asyncpg.PostgresError: They cannot be asked.
    """
    found = await session.fetchrow(_CHECK)
    faults = [
        words
        for wrong, words in (
            (found["version"] < OLDEST_VERSION, "it is older than PostgreSQL 13: update it"),
            (found["encoding"] != "UTF8", "its encoding is not UTF8: make a database that is"),
            (found["fsync"] != "on", "fsync is off, a crash would lose rows: turn it on"),
            (
                found["commit"] not in _SAFE_COMMITS,
                f"synchronous_commit is {found['commit']} for this role: set it to on",
            ),
        )
        if wrong
    ]
    if faults:
        raise Unusable("; ".join(faults))


def _options(server: PostgresServer, statement_s: float, *, read_only: bool) -> dict[str, Any]:
    """Return everything that the library would else take from its environment."""
    limit_ms = str(int(statement_s * 1_000))
    return {
        "user": server.user,
        "database": server.database,
        "password": _password(server.password_file),
        "ssl": _tls(server),
        "timeout": CONNECT_S,
        "server_settings": {
            "application_name": "meshsigner",
            "search_path": server.schema,
            "statement_timeout": limit_ms,
            "lock_timeout": limit_ms,
            "idle_in_transaction_session_timeout": limit_ms,
            "default_transaction_isolation": "read committed",
            "default_transaction_read_only": "on" if read_only else "off",
        },
    }


def _password(file: Path | None) -> str:
    if file is None:
        return ""
    content = _read(file)
    if not 0 < len(content) <= _MAX_PASSWORD_BYTES:
        msg = f"{file}: expected a password of 1 to {_MAX_PASSWORD_BYTES} bytes"
        raise Unusable(msg)
    return content


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        msg = f"{file}: cannot be read ({reason}): give the server's user the file"
        raise Unusable(msg) from error


def _tls(server: PostgresServer) -> ssl.SSLContext | bool:
    if server.ssl_mode == "disable" or _all_local_sockets(server.hosts):
        return False
    files = (server.ca_file, server.certificate_file, server.key_file)
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
        context.check_hostname = server.ssl_mode == "verify-full"
        if server.certificate_file is not None:
            context.load_cert_chain(server.certificate_file, server.key_file)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(file) for file in files if file is not None)
        msg = f"{named}: cannot be used for TLS ({error.strerror or type(error).__name__})"
        raise Unusable(msg) from error
    return context


def _all_local_sockets(hosts: Sequence[tuple[str, int]]) -> bool:
    return all(host.startswith("/") for host, _ in hosts)
