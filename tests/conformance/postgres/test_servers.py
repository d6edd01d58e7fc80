"""Whole servers on one PostgreSQL: from a call over gRPC to a row, and through its failures."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.cli.dev_state import DevState
from tests.conformance.postgres.database import Database
from tests.secret_scan import Secrets
from tests.wire.agents import Tally, agents
from tests.wire.processes import Running, command, invoke, running
from tests.wire.test_serve import CONFIG
from tests.wire.test_workers import _until

SERVE = ("serve", "--config", "meshsigner.yaml")
ALLOWED = {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}
Start = Callable[[str], Running]


def _configuration(database: Database, schema: str, directory: str) -> str:
    inventory = f"inventory: {{type: postgres, url: '{database.url}', schema_name: {schema}}}"
    text = CONFIG.replace("inventory: {path: inventory.db}", inventory)
    return text.replace("directory: serving", f"directory: {directory}") + "workers: 2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with a CA, a token issuer and a token."""
    DevState(tmp_path / ".state").prepare(datetime.now(UTC))
    who = ("--namespace", "shop", "--service-account", "cart")
    (tmp_path / "token").write_text(invoke("dev", "token", *who, cwd=tmp_path).stdout)
    return tmp_path


@pytest.fixture
def schema(request: pytest.FixtureRequest) -> str:
    """Return a schema of the test's own."""
    return str(request.node.name)[:40]


@pytest.fixture
def start(folder: Path, database: Database, schema: str, no_secrets: Secrets) -> Iterator[Start]:
    """Start servers of two workers each, by name, all with the same CA and database."""
    with ExitStack() as started:

        def one(name: str) -> Running:
            place = folder / name
            place.mkdir()
            (place / ".state").symlink_to(folder / ".state")
            (place / "token").symlink_to(folder / "token")
            (place / "meshsigner.yaml").write_text(_configuration(database, schema, "serving"))
            server = started.enter_context(running(*SERVE, cwd=place, secrets=no_secrets))
            server.wait_for(r'"workers":2|error: ')  # one after the other, on a busy machine
            return server

        yield one


def _address(server: Running, name: str) -> str:
    """Return where it listens, whether it is ready or not."""
    return server.wait_for(rf'"{name}":"(127[^"]+)"')[1]


def _page(server: Running, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{_address(server, 'admin')}{path}") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def _rows(database: Database, schema: str) -> list[str]:
    return database.sql(f"SELECT serial FROM {schema}.certificates").split()  # noqa: S608


def _check(tally: Tally, rows: list[str]) -> None:
    assert len(rows) == len(set(rows)), "a row is doubled"
    assert tally.serials <= set(rows), "somebody holds a certificate without a row"
    assert set(tally.codes) <= ALLOWED, tally.codes


async def test_two_servers_share_one_database(
    start: Start, folder: Path, database: Database, schema: str
) -> None:
    """Four workers of two servers write to one inventory, which is read by its configuration."""
    one, other = start("one"), start("other")
    async with (
        agents(one.address(), folder, fresh=4) as first,
        agents(other.address(), folder, fresh=4) as second,
    ):
        await first.grown_by(40)
        await second.grown_by(40)
    assert not first.lost
    assert not second.lost
    serials = first.serials | second.serials
    assert set(_rows(database, schema)) == serials
    status, page = await asyncio.to_thread(_page, one, "/healthz/ready")
    assert status == 200
    assert f"127.0.0.1:{database.port}/meshsigner is writable" in page
    where = ("--config", "meshsigner.yaml")
    list_all = ("inventory", "list", *where, "--json")
    shown = await asyncio.to_thread(command, *list_all, cwd=one.directory)
    assert {row["serial"] for row in json.loads(shown.stdout)} == serials
    serial = min(serials)
    show_one = ("inventory", "show", serial, *where)
    told = await asyncio.to_thread(command, *show_one, cwd=other.directory)
    assert f"Certificate {serial}" in told.stdout
    assert "BEGIN CERTIFICATE" in told.stdout


async def test_killed_database_costs_calls_but_no_row(
    start: Start, folder: Path, database: Database, schema: str
) -> None:
    """PostgreSQL is killed under load and started again: what callers hold is there, once each."""
    one, other = start("one"), start("other")
    async with (
        agents(one.address(), folder, warm=6) as first,
        agents(other.address(), folder, warm=6) as second,
    ):
        await first.grown_by(30)
        await asyncio.to_thread(database.kill)
        await _until(lambda: _page(one, "/healthz/ready")[0] == 503)
        _, page = await asyncio.to_thread(_page, one, "/healthz/ready")
        await asyncio.to_thread(database.start)
        await first.grown_by(30)
        await second.grown_by(30)
        await _until(lambda: _page(one, "/healthz/ready")[0] == 200)
        await _until(lambda: _page(other, "/healthz/ready")[0] == 200)
    assert "it cannot be reached" in page or "connection to it broke" in page
    assert first.codes["UNAVAILABLE"] + second.codes["UNAVAILABLE"] > 0
    for tally in (first, second):
        _check(tally, _rows(database, schema))


async def test_sessions_ended_again_and_again_cost_nothing(
    start: Start, folder: Path, database: Database, schema: str
) -> None:
    """Every connection is ended a dozen times under load: no call is lost for good."""
    one = start("one")
    end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'signer'"
    async with agents(one.address(), folder, warm=8) as tally:
        for _ in range(12):
            await tally.grown_by(5)
            await asyncio.to_thread(database.sql, end_all)
        await tally.grown_by(20)
    assert not tally.lost
    _check(tally, _rows(database, schema))


async def test_server_starts_before_its_database(
    start: Start, folder: Path, database: Database, schema: str
) -> None:
    """Without its database a server comes up, is not ready and says why; then it is."""
    await asyncio.to_thread(database.stop)
    one = start("one")
    assert '"event":"not ready"' in one.said
    status, page = await asyncio.to_thread(_page, one, "/healthz/ready")
    assert status == 503
    assert "inventory: inventory postgresql://signer@127.0.0.1" in page
    assert "it cannot be reached" in page
    await asyncio.to_thread(database.start)
    await _until(lambda: _page(one, "/healthz/ready")[0] == 200)
    async with agents(_address(one, "listen"), folder, fresh=1) as tally:
        await tally.grown_by(1)
    _check(tally, _rows(database, schema))


async def test_what_no_waiting_mends_is_told_at_the_start(start: Start, database: Database) -> None:
    """A server does not start with a database that it may not use, and says what to do."""
    await asyncio.to_thread(database.sql, "ALTER ROLE signer NOLOGIN")
    try:
        one = start("one")
        code = await asyncio.to_thread(one.process.wait, 30)
        assert code != 0
        assert "it refuses this user" in one.said
    finally:
        await asyncio.to_thread(database.sql, "ALTER ROLE signer LOGIN")
