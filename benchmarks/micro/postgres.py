"""Group commit in PostgreSQL beside SQLite: rows a second, delay of a commit, CPU a row.

Both stores as the server uses them, one writer each, one commit after the other
with so many rows; PostgreSQL is Debian's, on loopback and on the same disk.

`python -m benchmarks postgres` prints the table of docs/inventory.md.
"""

import secrets
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer

from benchmarks.micro.writers import make_record
from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_server import PostgresServer
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Record
from meshsigner.ports import Inventory
from tests.conformance.postgres.database import databases

GROUPS: Final = (1, 16, 64, 250)
ROUNDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What commits of one size cost, the median of several rounds.

    Attributes:
        store: `sqlite` or `postgres`.
        rows: Rows a commit.
        rows_per_s: With one commit after the other.
        commit_ms: Median time of one.
        cpu_us: CPU time of the writing process, microseconds a row.
    """

    store: str
    rows: int
    rows_per_s: float
    commit_ms: float
    cpu_us: float


def run(*, seconds: float = 1.0) -> list[Cost]:
    """Measure both stores.

    Args:
        seconds: Length of one round.
    """
    with ExitStack() as opened:
        stores = {name: opened.enter_context(make()) for name, make in _STORES.items()}
        return [
            _cost(name, store, rows, seconds) for rows in GROUPS for name, store in stores.items()
        ]


def command(
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of a round.")] = 1.0,
) -> None:
    """Group commit in PostgreSQL beside SQLite: rows a second, delay, CPU a row."""
    typer.echo(render(run(seconds=seconds)))


def render(costs: Sequence[Cost]) -> str:
    """Write the results as a table."""
    head = "| rows a commit | store | rows/s | ms a commit | CPU us a row |\n|---|---|---|---|---|"
    lines = [
        f"| {cost.rows} | {cost.store} | {cost.rows_per_s:,.0f} | {cost.commit_ms:.2f} | "
        f"{cost.cpu_us:.0f} |"
        for cost in costs
    ]
    return "\n".join([head, *lines])


def _cost(name: str, store: Inventory, rows: int, seconds: float) -> Cost:
    rounds = [_round(store, rows, seconds) for _ in range(ROUNDS)]
    per_s, commit_s, cpu_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Cost(
        store=name, rows=rows, rows_per_s=per_s, commit_ms=commit_s * 1e3, cpu_us=cpu_s * 1e6
    )


def _round(store: Inventory, rows: int, seconds: float) -> tuple[float, float, float]:
    """Commit for some time; return rows a second, seconds a commit, CPU seconds a row."""
    record = make_record()
    groups = _groups(record, rows)
    spent_s: list[float] = []
    cpu_s = 0.0
    while sum(spent_s) < seconds:
        group = next(groups)  # made outside of what is measured
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        store.write(group, [])
        spent_s.append(time.perf_counter() - began_s)
        cpu_s += time.process_time() - began_cpu_s
    done = rows * len(spent_s)
    return done / sum(spent_s), statistics.median(spent_s), cpu_s / done


def _groups(record: Record, rows: int) -> Iterator[list[Record]]:
    while True:
        yield [replace(record, serial=secrets.token_hex(16)) for _ in range(rows)]


@contextmanager
def _sqlite() -> Iterator[Inventory]:
    with (
        TemporaryDirectory() as name,  # beside PostgreSQL's, on the same disk
        closing(SqliteInventory(Path(name) / "inventory.db")) as store,
    ):
        store.probe()
        yield store


@contextmanager
def _postgres() -> Iterator[Inventory]:
    with databases() as (database,):
        database.initialise()
        server = PostgresServer(
            hosts=(("127.0.0.1", database.port),),
            user="signer",
            database="meshsigner",
            schema="meshsigner",
            ssl_mode="disable",
        )
        with closing(PostgresInventory(server)) as store:
            store.probe()
            yield store


_STORES = {"sqlite": _sqlite, "postgres": _postgres}
