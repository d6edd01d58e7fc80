"""What an error of PostgreSQL means: is it away for now, what became of a commit, what to do.

Decides the words, and the two questions that the store must not get wrong: may
the same thing pass in a moment, and could the commit have happened all the same.

Source: PostgreSQL documentation, appendix A (error codes).
"""

import socket
import ssl

import asyncpg

from meshsigner.inventory.faults import Unusable
from meshsigner.inventory.postgres_server import PostgresServer


class Away(Exception):
    """The server was away a moment ago and is not tried again yet.

    Args:
        words: What it said then, as `explain` told it.
        may_pass: As `is_passing` told it.
    """

    def __init__(self, words: str, *, may_pass: bool) -> None:
        super().__init__(words)
        self.may_pass = may_pass


FAULTS = (
    Away,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    Unusable,
    UnicodeError,
)

_CLOSED = (
    "08",  # connection exceptions
    "57P01",  # the administrator ended the session or the server
    "57P02",  # another session crashed it
    "57P03",  # it starts up or shuts down
    "57P05",  # idle session
    "25P03",  # idle in a transaction
    "25006",  # it has become a standby: the primary is elsewhere
)
_BUSY = ("53300",)  # too many connections

_ADVICE = {
    "28P01": "it refuses the password: see inventory.password_file",
    "28000": "it refuses this user: see its pg_hba.conf, and whether TLS is asked for there",
    "3D000": "there is no such database: create it",
    "3F000": "the schema is not there: start the server once, it makes it",
    "42501": "this user may not do that: give it CREATE on the database, or the schema itself",
    "42P01": "a table is missing: somebody has dropped it; restore a backup",
    "53100": "its disk is full: free space on it",
    "53200": "it is out of memory",
    "53300": "it has no connection left: raise max_connections; each worker needs one",
    "55P03": "another session holds a lock on the tables: see pg_locks",
    "57014": "it did not answer in time: it is overloaded, its disk is slow, or a synchronous "
    "standby is away",
    "57P01": "an administrator ended the connection",
    "57P02": "it has crashed and recovers",
    "57P03": "it is starting, stopping or recovering",
    "25006": "it is read-only: a standby, or default_transaction_read_only is on",
    "23505": "a certificate of the same serial and issuer is recorded already",
}


def sqlstate(error: BaseException) -> str:
    """Return the five characters of a server's error, empty when it is none."""
    code = getattr(error, "sqlstate", None)
    return code if isinstance(code, str) else ""


def is_open(error: BaseException) -> bool:
    """Tell whether a commit that met this error could have happened all the same.

    A server that answers with an error has rolled back; one that is gone, or
    whose answer was not waited for, may have committed before.
    """
    if isinstance(error, ValueError):
        return False  # a value that cannot be sent never was
    if isinstance(error, OSError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return True
    return sqlstate(error).startswith(_CLOSED)


def is_passing(error: BaseException) -> bool:
    """Tell whether the same thing may pass in a moment with nobody changing our settings."""
    if isinstance(error, Away):
        return error.may_pass
    if isinstance(error, ssl.SSLError) or _refused_tls(error):
        return False
    return is_open(error) or sqlstate(error).startswith(_BUSY)


def explain(error: BaseException, server: PostgresServer) -> str:
    """Say which database failed, how, and what to do.

    Args:
        error: What was raised. A server's own text is quoted only where it
            cannot hold a row's content.
        server: Where.
    """
    if isinstance(error, Away):
        return str(error)
    host = "".join(f" at {note}" for note in getattr(error, "__notes__", ()))
    return f"inventory {server}: {_words(error)}{host if len(server.hosts) > 1 else ''}"


def _words(error: BaseException) -> str:
    if isinstance(error, Unusable):
        return str(error)
    code = sqlstate(error)
    if code:
        return f"{_ADVICE.get(code, 'it failed')} ({code}{_quoted(error, code)})"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "only standbys are reached, none can be written: promote one or name the primary"
    if isinstance(error, OSError):
        return _words_of_network(error)
    if is_open(error):
        return "the connection to it broke"
    return f"a row cannot be stored ({type(error).__name__})"


def _words_of_network(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({error.verify_message}): see inventory.ca_file"
    if _refused_tls(error):
        return "it speaks no TLS: turn ssl on there (inventory.sslmode says it must)"
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be resolved ({error.strerror})"
    return f"it cannot be reached ({error.strerror or error})"


def _quoted(error: BaseException, code: str) -> str:
    # 22 and 23 (data, constraints) quote values; a row's content is nobody's business
    text = getattr(error, "message", None)
    return "" if code[:2] in {"22", "23"} or not text else f": {text}"


def _refused_tls(error: BaseException) -> bool:
    return type(error) is ConnectionError and "SSL" in str(error)
