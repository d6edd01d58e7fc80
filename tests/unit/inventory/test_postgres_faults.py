"""What an error of PostgreSQL means: open or not, passing or not, and in words."""

import socket
import ssl

import asyncpg
import pytest

from meshsigner.inventory.faults import Unusable
from meshsigner.inventory.postgres_faults import Away, explain, is_open, is_passing
from meshsigner.inventory.postgres_server import PostgresServer

SERVER = PostgresServer(
    hosts=(("db", 5432),), user="signer", database="meshsigner", schema="meshsigner"
)
NO_TLS = ConnectionError('PostgreSQL server at "db" rejected SSL upgrade')


class _DataError(asyncpg.InterfaceError, ValueError):  # type: ignore[misc]  # no types
    """As the library raises for a value that it cannot send."""


@pytest.mark.parametrize(
    ("error", "is_open_", "passes"),
    [
        (ConnectionResetError(), True, True),
        (TimeoutError(), True, True),
        (asyncpg.InterfaceError("connection is closed"), True, True),
        (asyncpg.ConnectionDoesNotExistError("gone"), True, True),
        (asyncpg.AdminShutdownError("bye"), True, True),
        (asyncpg.CrashShutdownError("bye"), True, True),
        (asyncpg.CannotConnectNowError("starting"), True, True),
        (asyncpg.ReadOnlySQLTransactionError("standby"), True, True),
        (asyncpg.TargetServerAttributeNotMatched("standbys"), True, True),
        (asyncpg.TooManyConnectionsError("full"), False, True),
        (asyncpg.QueryCanceledError("time"), False, False),
        (asyncpg.LockNotAvailableError("lock"), False, False),
        (asyncpg.DiskFullError("full"), False, False),
        (asyncpg.UniqueViolationError("twice"), False, False),
        (asyncpg.InvalidPasswordError("no"), False, False),
        (_DataError("odd"), False, False),
        (ssl.SSLCertVerificationError("no"), False, False),
        (NO_TLS, True, False),
        (Unusable("fsync"), False, False),
        (Away("away", may_pass=True), False, True),
        (Away("shut", may_pass=False), False, False),
    ],
    ids=repr,
)
def test_error_tells_what_became_of_a_commit(
    error: Exception, *, is_open_: bool, passes: bool
) -> None:
    """An answer of the server is an outcome, a broken connection is none."""
    assert is_open(error) is is_open_
    assert is_passing(error) is passes


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached (Connection"),
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
        (TimeoutError(), "it did not answer in time"),
        (NO_TLS, "it speaks no TLS"),
        (asyncpg.InvalidPasswordError("no"), "it refuses the password: see inventory"),
        (asyncpg.DiskFullError("no space"), "its disk is full: free space on it (53100)"),
        (asyncpg.InterfaceError("connection is closed"), "the connection to it broke"),
        (Unusable("fsync is off"), "fsync is off"),
        (_DataError("pod-name"), "a row cannot be stored (_DataError)"),
        (asyncpg.InternalServerError("x"), "it failed (XX000)"),
    ],
    ids=repr,
)
def test_error_is_told_with_what_to_do(error: Exception, words: str) -> None:
    """The database is named, and what a person can do about it."""
    told = explain(error, SERVER)
    assert told.startswith("inventory postgresql://signer@db:5432/meshsigner: ")
    assert words in told


@pytest.mark.parametrize("kind", [asyncpg.UniqueViolationError, asyncpg.DataError])
def test_content_of_a_row_is_not_told(kind: type[Exception]) -> None:
    """Errors of data and constraints quote values."""
    error = kind("Key (identity)=(spiffe://secret) already exists")
    error.message = str(error)  # type: ignore[attr-defined]  # as a server's error has it
    assert "spiffe://secret" not in explain(error, SERVER)


def test_host_is_named_where_there_are_several() -> None:
    """With standbys in the URL it matters which one spoke."""
    server = PostgresServer(hosts=(("a", 1), ("b", 2)), user="u", database="d", schema="meshsigner")
    error = TimeoutError()
    error.add_note("b:2")
    assert explain(error, server).endswith("it did not answer in time at b:2")
    assert explain(Away("told before", may_pass=True), server) == "told before"
