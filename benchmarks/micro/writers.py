"""Several processes that record certificates: which way to the disk delays and costs least.

Four ways for 1, 2 or 4 writers that together record a fixed number of rows a
second, in groups as the recorder makes them: a file each; one file with SQLite's
own polling for its write lock; one file with a queue in front of it; one process
that writes for all. `python -m benchmarks.micro.writers` prints the table of
docs/adr/0016.
"""

import fcntl
import multiprocessing
import os
import pickle
import resource
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from sqlite3 import Connection as Database
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer

from meshsigner.inventory import schema
from meshsigner.inventory.columns import to_row
from meshsigner.inventory.connection import open_writer
from meshsigner.inventory.statements import Row, store
from meshsigner.model import Record

_TURN_S: Final = 0.02
_BUSY: Final = timedelta(seconds=10)
_MAX_BYTES: Final = 8 * 1024**3
_SPAWN: Final = multiprocessing.get_context("spawn")
_DONE: Final = b"1"
Commit = Callable[[Sequence[Row]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one writer has to do: rows arrive in turns of 20 ms.

    Attributes:
        rows_per_s: How many.
        seconds: For how long.
    """

    rows_per_s: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        delays_s: For each turn's rows, from their arrival until they were safe.
        commits: How many commits that took.
        rows: Rows stored.
        cpu_s: CPU time of the process meanwhile.
    """

    delays_s: tuple[float, ...]
    commits: int
    rows: int
    cpu_s: float


@contextmanager
def to_file(file: Path) -> Iterator[Commit]:
    """Commit to a file, alone or with others: then SQLite polls for the write lock."""
    with closing(_open(file)) as database:
        yield partial(store, database, undelivered="")


@contextmanager
def in_turn(file: Path) -> Iterator[Commit]:
    """Commit to a file that others write too, one behind the other."""
    queue = os.open(file.with_suffix(".queue"), os.O_RDWR | os.O_CREAT, 0o600)

    def commit(rows: Sequence[Row]) -> None:
        fcntl.flock(queue, fcntl.LOCK_EX)
        store(database, rows, "")
        fcntl.flock(queue, fcntl.LOCK_UN)

    with closing(_open(file)) as database:
        yield commit


@contextmanager
def through(socket: Path) -> Iterator[Commit]:
    """Hand rows to the process that writes for all, and wait for its word."""
    while not socket.exists():
        time.sleep(0.01)
    with Client(str(socket)) as connection:

        def commit(rows: Sequence[Row]) -> None:
            connection.send_bytes(pickle.dumps(rows))
            connection.recv_bytes()

        yield commit


def write_for_all(file: Path, socket: Path, writers: int, result: Path) -> None:
    """Commit what all have sent together, until all have gone."""
    with closing(_open(file)) as database, Listener(str(socket)) as listener:
        connections = [listener.accept() for _ in range(writers)]
        cpu_s = _cpu_s()
        while connections:
            _commit_for(database, connections)
        result.write_bytes(pickle.dumps(_cpu_s() - cpu_s))


def _commit_for(database: Database, connections: "list[Connection[bytes, bytes]]") -> None:
    senders, rows = [], []
    for one in wait(connections):
        try:
            rows += pickle.loads(one.recv_bytes())  # type: ignore[union-attr] # noqa: S301 - ours
        except EOFError:
            connections.remove(one)  # type: ignore[arg-type]
        else:
            senders.append(one)
    if rows:
        store(database, rows, "")
    for sender in senders:
        sender.send_bytes(_DONE)  # type: ignore[union-attr]


def write(kind: str, place: Path, load: Load, result: Path) -> None:
    """Take rows as they arrive and commit all that is there, again and again."""
    record, each = make_record(), round(load.rows_per_s * _TURN_S)
    turns = [
        [to_row(replace(record, serial=secrets.token_hex(16))) for _ in range(each)]
        for _ in range(round(load.seconds / _TURN_S))
    ]
    ways = {"own": to_file, "polled": to_file, "queued": in_turn, "process": through}
    with ways[kind](place) as commit:
        commit(turns[0])
        result.write_bytes(pickle.dumps(_commit_all(commit, turns[1:])))


def _commit_all(commit: Commit, turns: Sequence[Sequence[Row]]) -> Outcome:
    begin_s, cpu_s = time.perf_counter(), _cpu_s()
    done = commits = 0
    delays: list[float] = []
    while done < len(turns):
        time.sleep(max(0.0, begin_s + done * _TURN_S - time.perf_counter()))
        there = min(len(turns), int((time.perf_counter() - begin_s) / _TURN_S) + 1)
        there = max(there, done + 1)
        commit([row for turn in turns[done:there] for row in turn])
        safe_s, commits = time.perf_counter(), commits + 1
        delays += [safe_s - (begin_s + turn * _TURN_S) for turn in range(done, there)]
        done = there
    return Outcome(
        delays_s=tuple(delays),
        commits=commits,
        rows=sum(map(len, turns)),
        cpu_s=_cpu_s() - cpu_s,
    )


def measure(kind: str, writers: int, load: Load) -> dict[str, float]:
    """Measure one way: delays in ms, CPU in microseconds a row, rows a commit.

    Args:
        kind: `own`, `polled`, `queued` or `process`.
        writers: How many processes record.
        load: Of all of them together.
    """
    each = replace(load, rows_per_s=load.rows_per_s / writers)
    with TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        places = {"own": "{}.db", "polled": "all.db", "queued": "all.db", "process": "socket"}
        processes = [
            (write, (kind, folder / places[kind].format(n), each, folder / f"result-{n}"))
            for n in range(writers)
        ]
        if kind == "process":
            shared = (folder / "all.db", folder / "socket", writers, folder / "shared")
            processes.append((write_for_all, shared))  # type: ignore[arg-type]
        elif kind != "own":
            _open(folder / "all.db").close()
        _run_all(processes)
        outcomes = [_load(folder / f"result-{n}") for n in range(writers)]
        shared_cpu = folder / "shared"
        extra_s = _load(shared_cpu) if shared_cpu.exists() else 0.0
    return _summary(outcomes, extra_s)


def _load(result: Path) -> Any:
    return pickle.loads(result.read_bytes())  # noqa: S301 - written by a process of ours


def _run_all(processes: Sequence[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
    started = [_SPAWN.Process(target=target, args=arguments) for target, arguments in processes]
    for one in started:
        one.start()
    for one in started:
        one.join()


def _summary(outcomes: Sequence[Outcome], extra_cpu_s: float) -> dict[str, float]:
    delays = sorted(delay for outcome in outcomes for delay in outcome.delays_s)
    rows = sum(outcome.rows for outcome in outcomes)
    cpu_s = sum(outcome.cpu_s for outcome in outcomes) + extra_cpu_s
    return {
        "p50 ms": delays[len(delays) // 2] * 1e3,
        "p99 ms": delays[len(delays) * 99 // 100] * 1e3,
        "max ms": delays[-1] * 1e3,
        "us a row": cpu_s / rows * 1e6,
        "rows a commit": rows / sum(outcome.commits for outcome in outcomes),
    }


def _open(file: Path) -> Database:
    database = open_writer(file, synchronous="full", busy_timeout=_BUSY, max_bytes=_MAX_BYTES)
    schema.migrate(database)
    return database


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_record() -> Record:
    """Return a row of the usual size."""
    now = datetime.now(UTC)
    return Record(
        serial="",
        identity="spiffe://cluster.local/ns/bookinfo/sa/productpage",
        cluster="Kubernetes",
        namespace="bookinfo",
        pod_name="productpage-v1-6d4cf56db6-x2x4k",
        pod_uid="0f3c1d2e-4b5a-4c6d-8e7f-0a1b2c3d4e5f",
        node_name="node-7.example",
        credential_id="5f0a9a7e-6f0c-4b8e-9d5f-1f2e3d4c5b6a",
        impersonator="",
        auth_method="jwt",
        issuer="ab" * 32,
        backend="embedded",
        public_key_sha256="cd" * 32,
        csr_sha256="ef" * 32,
        not_before=now - timedelta(minutes=2),
        not_after=now + timedelta(days=1),
        policy_generation=1,
        client_address="ipv4:127.0.0.1:41000",
        issued_at=now,
        delivered=True,
        certificate_der=os.urandom(780),
    )


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the medians are shown.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="How long each takes.")] = 4.0,
    rows_per_s: Annotated[float, typer.Option(min=200, help="Of all writers.")] = 1000.0,
) -> None:
    """Measure every way with 1, 2 and 4 writers, in the directory where it is started."""
    load = Load(rows_per_s=rows_per_s, seconds=seconds)
    cases = [
        (writers, kind)
        for writers in (1, 2, 4)
        for kind in ("own", "polled", "queued", "process")
        if writers > 1 or kind in {"own", "process"}
    ]
    found = {case: list[dict[str, float]]() for case in cases}
    for _ in range(rounds):
        for writers, kind in cases:
            found[writers, kind].append(measure(kind, writers, load))
    for (writers, kind), ones in found.items():
        figures = [f"{name} {statistics.median(o[name] for o in ones):6.1f}" for name in ones[0]]
        print(writers, f"{kind:8}", "  ".join(figures))


if __name__ == "__main__":
    typer.run(main)
