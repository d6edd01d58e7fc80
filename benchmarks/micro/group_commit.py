"""Group commit against one commit a certificate, on the inventory's own rows and file.

Each size of group stores rows through `SqliteInventory` in a thread of its own, handed
over by an event loop that waits for each commit, as the recorder's does; one commit a
certificate is the group of one. Shown are rows a second, CPU a row and how many times as
fast as the group of one, for `synchronous` FULL and NORMAL. The disk decides with FULL:
run it where the inventory will be.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.table import Table

from benchmarks.load.report import machine, table
from benchmarks.micro.writers import make_record
from benchmarks.scenarios.material import OnStage
from meshsigner.inventory.connection import Synchronous
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Record

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 100, 250)
MODES: Final[tuple[Synchronous, ...]] = ("full", "normal")
GOAL: Final = 20.0
"""Times as fast as one commit a certificate, at 250 rows and NORMAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One measurement.

    Args:
        mode: `synchronous`.
        size: Rows a commit.
        per_s: Rows stored a second.
        cpu_us: CPU a row, of both threads.
        commit_ms: Mean time of a commit.
    """

    mode: str
    size: int
    per_s: float
    cpu_us: float
    commit_ms: float


def run(rounds: int, rows: int, work: Path, on_stage: OnStage) -> list[Group]:
    """Measure every size in both modes, in turns.

    Args:
        rounds: How often.
        rows: Rows of each measurement; the smallest groups store a quarter.
        work: Directory on the file system in question.
        on_stage: Told what goes on.
    """
    step = on_stage("groups", rounds * len(MODES) * len(SIZES))
    found = []
    for number in range(rounds):
        for mode in MODES:
            for size in SIZES:
                file = work / f"{mode}-{size}-{number}.db"
                found.append(_measure(file, mode, size, rows if size > 8 else rows // 4))
                step()
    return found


def _measure(file: Path, mode: Synchronous, size: int, rows: int) -> Group:
    groups = [_records(size, at) for at in range(0, rows, size)]
    with (
        closing(SqliteInventory(file, synchronous=mode)) as inventory,
        ThreadPoolExecutor(1) as thread,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        thread.submit(inventory.write, _records(1, -1), []).result()  # opens the file
        took_s, cpu_s = runner.run(_commit_all(inventory, thread, groups))
    stored = size * len(groups)
    return Group(
        mode=mode,
        size=size,
        per_s=stored / took_s,
        cpu_us=cpu_s / stored * 1e6,
        commit_ms=took_s / len(groups) * 1e3,
    )


async def _commit_all(
    inventory: SqliteInventory, thread: ThreadPoolExecutor, groups: Sequence[list[Record]]
) -> tuple[float, float]:
    """Return how long all commits took, and their CPU time, in seconds."""
    loop = asyncio.get_running_loop()
    began, cpu = time.perf_counter(), time.process_time()
    for group in groups:
        await loop.run_in_executor(thread, inventory.write, group, [])
    return time.perf_counter() - began, time.process_time() - cpu


def _records(number: int, first: int) -> list[Record]:
    record = make_record()
    return [replace(record, serial=f"{first + n + 2:x}") for n in range(number)]


def medians(groups: Sequence[Group], mode: str, size: int) -> Group:
    """Return one size's medians over the rounds."""
    ones = [group for group in groups if group.mode == mode and group.size == size]
    return Group(
        mode=mode,
        size=size,
        per_s=statistics.median(one.per_s for one in ones),
        cpu_us=statistics.median(one.cpu_us for one in ones),
        commit_ms=statistics.median(one.commit_ms for one in ones),
    )


def gain(groups: Sequence[Group], mode: str, size: int) -> float:
    """Return how many times as many rows a second as with one commit a certificate."""
    return medians(groups, mode, size).per_s / medians(groups, mode, 1).per_s


def as_data(groups: Sequence[Group]) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    return {
        "scenario": "group-commit",
        "machine": machine(),
        "figures": {"gain at 250, normal": gain(groups, "normal", 250)},
        "goal": GOAL,
        "faults": [],
        "groups": [asdict(group) for group in groups],
    }


def figures(groups: Sequence[Group]) -> Table:
    """Return both modes side by side."""
    columns = ["rows a commit"]
    for mode in MODES:
        columns += [f"{mode}: rows/s", "times", "CPU us a row", "ms a commit"]
    rows = [[str(size), *_cells(groups, size)] for size in SIZES]
    return table("Group commit against one commit a certificate", columns, rows)


def _cells(groups: Sequence[Group], size: int) -> list[str]:
    cells = []
    for mode in MODES:
        one = medians(groups, mode, size)
        cells += [f"{one.per_s:,.0f}", f"{gain(groups, mode, size):.1f}"]
        cells += [f"{one.cpu_us:.0f}", f"{one.commit_ms:.2f}"]
    return cells
