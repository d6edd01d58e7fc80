"""What a server's processes cost: CPU time and resident memory, from Linux's /proc.

A server is its first process with all descendants, so that a supervisor with workers
counts as one.
"""

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTime:
    """CPU time that processes have used since they began, all threads.

    Args:
        total_s: From the scheduler's clock, good to nanoseconds.
        user_s: Share in user mode, good to a clock tick (10 ms as a rule).
        system_s: Share in the kernel, as good.
    """

    total_s: float
    user_s: float
    system_s: float

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        """Return what was used between two readings."""
        return CpuTime(
            total_s=self.total_s - earlier.total_s,
            user_s=self.user_s - earlier.user_s,
            system_s=self.system_s - earlier.system_s,
        )


def family(pid: int) -> list[int]:
    """Return the process and all its descendants."""
    children = defaultdict(list)
    for entry in _PROC.glob("[0-9]*/stat"):
        try:
            children[int(_stat_fields(entry)[1])].append(int(entry.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    members = [pid]
    for member in members:
        members += children[member]
    return members


def cpu_time(pid: int) -> CpuTime:
    """Return the CPU time of a process and its descendants."""
    members = family(pid)
    stats = [_stat_fields(_PROC / str(member) / "stat") for member in members]
    return CpuTime(
        total_s=sum(time.clock_gettime(_cpu_clock(member)) for member in members),
        user_s=sum(int(fields[11]) for fields in stats) / _TICKS_PER_S,
        system_s=sum(int(fields[12]) for fields in stats) / _TICKS_PER_S,
    )


def own_cpu_s(pid: int) -> float:
    """Return the CPU time of a process without its descendants, all threads."""
    return time.clock_gettime(_cpu_clock(pid))


def resident_bytes(pid: int) -> list[int]:
    """Return the resident memory of a process and each of its descendants."""
    statm = [(_PROC / str(member) / "statm").read_text() for member in family(pid)]
    return [int(line.split()[1]) * _PAGE_BYTES for line in statm]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep this thread, and every process it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_clock(pid: int) -> int:
    """Return the id of another process's CPU clock (clock_getcpuclockid(3) on Linux)."""
    return ~pid << 3 | 2


def _stat_fields(file: Path) -> list[str]:
    """Return the fields after the command's name, which may itself hold spaces."""
    return file.read_text().rpartition(")")[2].split()
