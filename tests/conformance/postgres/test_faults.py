"""What breaks while a commit is under way: no row is doubled, none that was promised is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_server import PostgresServer
from meshsigner.model import Record
from tests.conformance.postgres.database import Database, databases
from tests.conformance.postgres.proxy import proxy_to
from tests.unit.inventory.records import make_records

Opened = Callable[..., PostgresInventory]
Stored = Callable[..., list[Record]]
END_SESSIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE application_name = 'meshsigner' AND pid <> pg_backend_pid()"
)


def _serials(records: list[Record]) -> list[str]:
    return sorted(record.serial for record in records)


def test_connection_that_broke_between_two_commits_is_made_anew(
    inventory: PostgresInventory, database: Database, stored: Stored
) -> None:
    """Nobody notices but the server's log."""
    records = make_records(4)
    inventory.write(records[:2], [])
    database.sql(END_SESSIONS)
    inventory.write(records[2:], [])
    assert _serials(stored()) == _serials(records)
    assert inventory.health().ready


@pytest.mark.parametrize("answers", [0, 1, 2])
def test_commit_whose_answer_got_lost_is_looked_up(
    opened: Opened, database: Database, stored: Stored, answers: int
) -> None:
    """The server has committed, the answer never came: the rows are found and not doubled."""
    # lost to the statement itself, or to the look-up before or after its own commit
    records = make_records(5)
    with proxy_to(database.port) as proxy:
        inventory = opened(hosts=(("127.0.0.1", proxy.port),))
        inventory.probe()
        inventory.write(make_records(1), [])  # its statement is prepared from now on
        proxy.swallow_answers(after=answers)
        inventory.write(records, [records[0].serial])
        assert proxy.swallowed.is_set()
        inventory.close()
    found = [record for record in stored() if record.serial in _serials(records)]
    assert _serials(found) == _serials(records)
    assert [record.serial for record in found if not record.delivered] == [records[0].serial]


def test_session_ended_in_the_middle_of_a_commit(
    inventory: PostgresInventory, server: PostgresServer, database: Database, stored: Stored
) -> None:
    """A commit that waits for a lock when its session is ended is done again, once."""
    records = make_records(3)
    hold = f"BEGIN; LOCK TABLE {server.schema}.certificates; SELECT pg_sleep(1.2); COMMIT"
    holder = threading.Thread(target=database.sql, args=(hold,))
    holder.start()
    time.sleep(0.4)
    breaker = threading.Timer(0.3, database.sql, args=(END_SESSIONS,))
    breaker.start()
    inventory.write(records, [])
    holder.join()
    breaker.join()
    assert _serials(stored()) == _serials(records)


def test_restart_during_commits_loses_and_doubles_nothing(
    opened: Opened, database: Database, stored: Stored
) -> None:
    """Killed by SIGKILL and started again, under a stream of commits: what was told is there."""
    inventory = opened()
    inventory.probe()
    told: list[Record] = []
    refused: list[RecordFailed] = []
    end = threading.Event()

    def break_it() -> None:
        for _ in range(2):
            time.sleep(0.7)
            database.kill()
            database.start()
        time.sleep(0.7)
        end.set()

    breaker = threading.Thread(target=break_it)
    breaker.start()
    while not end.is_set():
        records = make_records(20)
        try:
            inventory.write(records, [])
        except RecordFailed as error:
            refused.append(error)
            time.sleep(0.02)
        else:
            told += records
    breaker.join()
    serials = _serials(stored())
    assert len(serials) == len(set(serials))
    assert set(_serials(told)) <= set(serials)
    assert len(told) > 200
    assert all(error.may_pass for error in refused), refused


def test_server_that_is_away_is_told_at_once_and_found_again(
    opened: Opened, database: Database
) -> None:
    """While nobody listens a call costs nothing, says where and why, and tries again soon."""
    inventory = opened()
    inventory.probe()
    database.stop()
    for _ in range(5):
        with pytest.raises(RecordFailed, match="cannot be reached") as caught:
            inventory.write(make_records(1), [])
        assert caught.value.may_pass
        assert not inventory.health().ready
        assert str(database.port) in inventory.health().detail
    started = time.monotonic()
    with pytest.raises(RecordFailed):
        inventory.write(make_records(1), [])
    assert time.monotonic() - started < 0.1
    database.start()
    time.sleep(2.1)  # the longest pause
    inventory.write(make_records(1), [])
    assert inventory.health().ready


def test_first_use_of_a_server_that_is_away_may_pass(opened: Opened, database: Database) -> None:
    """A process may start before its database does."""
    database.stop()
    with pytest.raises(RecordFailed, match="cannot be reached") as caught:
        opened().probe()
    assert caught.value.may_pass


def test_frozen_server_is_given_up_in_time(opened: Opened, database: Database) -> None:
    """A server that stands still costs the time for one commit, and is used again afterwards."""
    inventory = opened(timeout_s=1.5)
    inventory.probe()
    with _frozen(database):
        started = time.monotonic()
        with pytest.raises(RecordFailed, match="did not answer in time") as caught:
            inventory.write(make_records(1), [])
        assert time.monotonic() - started < 2.5
        assert caught.value.may_pass
    time.sleep(0.5)
    inventory.write(make_records(1), [])


@contextmanager
def _frozen(database: Database) -> Iterator[None]:
    database.freeze()
    try:
        yield
    finally:
        database.thaw()


def test_full_disk_withholds_and_loses_nothing() -> None:
    """Rows that do not fit are told as not stored, those before stay, and room makes all well."""
    with databases() as (database,):
        database.small_mib = 24
        database.initialise()
        database.sql(f"CREATE TABLESPACE small LOCATION '{database.root}/small'")
        database.sql("GRANT CREATE ON TABLESPACE small TO signer")
        database.sql("ALTER ROLE signer SET default_tablespace = small")
        ballast = "SELECT repeat(md5(n::text), 60) FROM generate_series(1, 8000) AS n"
        database.sql(f"CREATE TABLE ballast TABLESPACE small AS {ballast}")
        inventory = PostgresInventory(_server_of(database))
        inventory.probe()
        told, refused = _fill(inventory)
        assert "its disk is full: free space on it" in str(refused)
        assert not refused.may_pass
        assert not inventory.health().ready
        database.sql("DROP TABLE ballast")
        inventory.write(make_records(1), [])
        assert inventory.health().ready
        inventory.close()
        found = database.sql("SELECT serial FROM meshsigner.certificates").split()
        assert len(found) == len(told) + 1
        assert {record.serial for record in told} <= set(found)


def _fill(inventory: PostgresInventory) -> tuple[list[Record], RecordFailed]:
    """Write until that fails; return what was told as stored, and why the rest was not."""
    told: list[Record] = []
    while len(told) < 50_000:
        records = make_records(50)
        try:
            inventory.write(records, [])
        except RecordFailed as error:
            return told, error
        told += records
    raise AssertionError("the disk is not full")


def _server_of(*servers: Database) -> PostgresServer:
    return PostgresServer(
        hosts=tuple(("127.0.0.1", server.port) for server in servers),
        user="signer",
        database="meshsigner",
        schema="meshsigner",
        ssl_mode="disable",
    )


def test_standby_that_was_promoted_has_every_row() -> None:
    """The primary dies under commits, its synchronous standby takes over: nothing told is lost."""
    with databases(2) as (primary, standby):
        synchronous = {"synchronous_standby_names": "standby"}
        primary.initialise()
        standby.follow(primary)
        primary.stop()
        primary.settings = synchronous
        primary.start()
        inventory = PostgresInventory(_server_of(primary, standby))
        inventory.probe()
        assert "synchronous standbys: standby" in inventory.health().detail
        told: list[Record] = []

        def fail_over() -> None:
            primary.kill()
            standby.promote()

        failing = threading.Timer(1.0, fail_over)
        failing.start()
        deadline = time.monotonic() + 20
        after = 0
        while after < 10 and time.monotonic() < deadline:
            records = make_records(10)
            with suppress(RecordFailed):
                inventory.write(records, [])
                told += records
                after += not primary.answers()
        failing.join()
        inventory.close()
        found = standby.sql("SELECT serial FROM meshsigner.certificates").split()
        assert after == 10
        assert len(found) == len(set(found))
        assert {record.serial for record in told} <= set(found)
