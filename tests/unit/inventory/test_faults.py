"""Faults: the words a person gets, and what they must not hold."""

import errno
import sqlite3
from pathlib import Path

import pytest

from meshsigner.inventory.faults import Unusable, explain, free_bytes, primary_code


def _sqlite_error(database: Path, *statements: str) -> sqlite3.Error:
    """Provoke an error for real: it cannot be made by hand with its code."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=0)
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    pytest.fail("no error came")


def test_error_of_sqlite_says_what_to_do(tmp_path: Path) -> None:
    """The text names the file, the remedy, SQLite's own words and the room on the disk."""
    database = tmp_path / "inventory.db"
    error = _sqlite_error(database, "PRAGMA query_only = ON", "CREATE TABLE t (a)")
    text = explain(error, database)

    assert text.startswith(f"inventory {database}: it is read-only for this process: mount")
    assert "attempt to write a readonly database; " in text
    assert "KiB free on its disk" in text


def test_extended_code_has_its_primary_one(tmp_path: Path) -> None:
    """A broken uniqueness is a constraint like any other."""
    error = _sqlite_error(
        tmp_path / "db",
        "CREATE TABLE t (a UNIQUE)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (1)",
    )

    assert getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_UNIQUE
    assert primary_code(error) == sqlite3.SQLITE_CONSTRAINT
    assert "same serial and issuer" in explain(error, tmp_path)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EROFS, "mount the file system writable"),
        (errno.EACCES, "give the server's user"),
        (errno.ENOENT, "its directory must exist"),
    ],
)
def test_error_of_the_system_has_the_same_remedies(number: int, remedy: str) -> None:
    """It does not matter who saw first that a disk is full or read-only."""
    assert remedy in explain(OSError(number, "words of the system"), Path("/d/inventory.db"))


def test_other_errors_stand_in_their_own_words() -> None:
    """What has no remedy of ours is quoted as it is."""
    assert explain(OSError("odd"), Path("/f")) == "inventory /f: odd"
    assert explain(Unusable("in use"), Path("/f")) == "inventory /f: in use"
    assert explain(sqlite3.ProgrammingError("bug"), Path("/f")) == "inventory /f: bug"


def test_content_of_a_row_is_not_quoted() -> None:
    """An error about a value may hold that value: only its kind is told."""
    try:
        "secret\ud800".encode()
    except UnicodeEncodeError as error:
        text = explain(error, Path("/f"))

    assert text == "inventory /f: a row cannot be stored (UnicodeEncodeError)"


def test_room_on_no_disk_is_unknown(tmp_path: Path) -> None:
    """A path that leads nowhere has no free space to tell."""
    assert free_bytes(tmp_path / "absent" / "inventory.db") is None
    assert (free_bytes(tmp_path / "inventory.db") or 0) > 0
