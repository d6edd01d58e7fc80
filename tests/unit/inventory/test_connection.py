"""Connections: modes of the file, durability, and reading where one may not write."""

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from meshsigner.inventory.connection import (
    LOG_LIMIT_BYTES,
    PAGE_BYTES,
    Synchronous,
    open_reader,
    open_writer,
)
from meshsigner.inventory.faults import Unusable

NO_WAIT = timedelta(0)


def _writer(
    database: Path, *, synchronous: Synchronous = "full", max_bytes: int = 2**30
) -> sqlite3.Connection:
    return open_writer(database, synchronous=synchronous, busy_timeout=NO_WAIT, max_bytes=max_bytes)


@pytest.mark.parametrize(("synchronous", "value"), [("full", 2), ("normal", 1)])
def test_writer_is_as_durable_as_asked(
    database: Path, synchronous: Synchronous, value: int
) -> None:
    """The log is synced at each commit, or at checkpoints alone."""
    with closing(_writer(database, synchronous=synchronous)) as connection:
        assert (value,) == connection.execute("PRAGMA synchronous").fetchone()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_log_and_size_are_bounded(database: Path) -> None:
    """The file grows to its bound, a log that was longer is cut back."""
    with closing(_writer(database, max_bytes=2**24)) as connection:
        assert connection.execute("PRAGMA max_page_count").fetchone() == (2**24 // PAGE_BYTES,)
        assert connection.execute("PRAGMA journal_size_limit").fetchone() == (LOG_LIMIT_BYTES,)


def test_all_files_are_private(database: Path) -> None:
    """File, log and index can be read by their owner alone."""
    with closing(_writer(database)) as connection:
        connection.execute("CREATE TABLE t (a)")
        files = sorted(database.parent.iterdir())

        assert [f.name for f in files] == ["inventory.db", "inventory.db-shm", "inventory.db-wal"]
        assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}


def test_file_that_others_could_read_becomes_private(database: Path) -> None:
    """A laxer mode, from a copy or a backup, is tightened."""
    database.touch(0o644)
    _writer(database).close()

    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_place_without_write_ahead_log_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where SQLite keeps no log, commits would not be what they are said to be."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Unusable, match="write-ahead log: use a local disk"):
        _writer(Path(":memory:"))  # the one place without a log that is at hand everywhere


def test_file_of_somebody_else_is_an_error(database: Path) -> None:
    """What is no database is not overwritten."""
    database.write_text("not a database, but long enough to be read as a header of one\n" * 9)
    before = database.read_bytes()

    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        _writer(database)
    with pytest.raises(sqlite3.DatabaseError, match="file is not a database"):
        open_reader(database, busy_timeout=NO_WAIT)
    assert before == database.read_bytes()


def test_reader_sees_what_the_writer_commits(database: Path) -> None:
    """A reader beside a writer is always at the last commit, and cannot write."""
    with closing(_writer(database)) as writer:
        writer.execute("CREATE TABLE t (a)")
        with closing(open_reader(database, busy_timeout=NO_WAIT)) as reader:
            writer.execute("INSERT INTO t VALUES (7)")

            assert reader.execute("SELECT a FROM t").fetchall() == [(7,)]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("DELETE FROM t")


def test_reader_needs_no_server(database: Path) -> None:
    """A file whose writer has ended is read all the same; odd letters in its path do no harm."""
    odd = database.with_name("100%? #ü.db")
    with closing(_writer(odd)) as writer:
        writer.execute("CREATE TABLE t (a)")

    with closing(open_reader(odd, busy_timeout=NO_WAIT)) as reader:
        assert reader.execute("SELECT a FROM t").fetchall() == []


def test_reader_makes_no_file(database: Path) -> None:
    """To read a file that is not there is an error, and leaves none behind."""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        open_reader(database, busy_timeout=NO_WAIT)
    assert not database.exists()


MADE = """
import os, sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from meshsigner.inventory.connection import open_writer
database = Path(sys.argv[1])
writer = open_writer(
    database, synchronous="full", busy_timeout=timedelta(0), max_bytes=2**30
)
writer.execute("CREATE TABLE t (a)")
if sys.argv[2] == "closed":
    writer.close()
os._exit(0)  # as a crash: nobody closes what is open
"""

READ_ONLY = """
import sys
from datetime import timedelta
from pathlib import Path
from meshsigner.inventory.connection import open_reader
reader = open_reader(Path(sys.argv[1]), busy_timeout=timedelta(0))
print(reader.execute("SELECT count(*) FROM t").fetchone())
"""


def test_reader_may_be_forbidden_to_write(
    database: Path, run_code: Callable[..., str], run_read_only: Callable[..., str]
) -> None:
    """On a read-only file system a file that was closed well is read."""
    run_code(MADE, database, "closed")

    assert run_read_only(database.parent, READ_ONLY, database) == "(0,)\n"


def test_read_only_copy_of_a_crash_is_read_with_its_log(
    database: Path, run_code: Callable[..., str], run_read_only: Callable[..., str]
) -> None:
    """On a read-only file system what stands only in the log counts, too."""
    run_code(MADE, database, "left open")
    assert database.with_name("inventory.db-wal").stat().st_size > 0

    assert run_read_only(database.parent, READ_ONLY, database) == "(0,)\n"
