"""What a server's processes cost: CPU time and resident memory, from Linux's /proc.

A server is its first process with all descendants, so that a supervisor with workers
counts as one.
"""

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
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

    def __add__(self, other: "CpuTime") -> "CpuTime":
        """Return what two have used together."""
        return CpuTime(
            total_s=self.total_s + other.total_s,
            user_s=self.user_s + other.user_s,
            system_s=self.system_s + other.system_s,
        )

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        """Return what was used between two readings."""
        return CpuTime(
            total_s=self.total_s - earlier.total_s,
            user_s=self.user_s - earlier.user_s,
            system_s=self.system_s - earlier.system_s,
        )


_NO_TIME: Final = CpuTime(total_s=0.0, user_s=0.0, system_s=0.0)


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
    return sum((cpu_of(member) for member in family(pid)), start=_NO_TIME)


def cpu_of(pid: int) -> CpuTime:
    """Return the CPU time of one process, all its threads."""
    fields = _stat_fields(_PROC / str(pid) / "stat")
    return CpuTime(
        total_s=own_cpu_s(pid),
        user_s=int(fields[11]) / _TICKS_PER_S,
        system_s=int(fields[12]) / _TICKS_PER_S,
    )


def own_cpu_s(pid: int) -> float:
    """Return the CPU time of a process without its descendants, all threads."""
    return time.clock_gettime(_cpu_clock(pid))


def resident_bytes(pid: int) -> list[int]:
    """Return the resident memory of a process and each of its descendants."""
    return [resident_of(member) for member in family(pid)]


def resident_of(pid: int) -> int:
    """Return the resident memory of one process, bytes."""
    statm = (_PROC / str(pid) / "statm").read_text()
    return int(statm.split()[1]) * _PAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTime:
    """CPU time of the whole machine since it started, seconds over all CPUs.

    Args:
        busy_s: Used by processes and the kernel.
        stolen_s: Taken by other machines on the same hardware.
    """

    busy_s: float
    stolen_s: float


def machine_time() -> MachineTime:
    """Return the machine's own reading."""
    ticks = [int(text) for text in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = ticks
    busy = user + nice + system + irq + softirq
    return MachineTime(busy_s=busy / _TICKS_PER_S, stolen_s=steal / _TICKS_PER_S)


def run_wait_s(pid: int) -> float:
    """Return how long a process's threads have been ready and waited for a core."""
    schedules = [file.read_text() for file in (_PROC / str(pid) / "task").glob("*/schedstat")]
    return sum(int(line.split()[1]) for line in schedules) / 1e9


def command_line(pid: int) -> list[str]:
    """Return what a process was started with."""
    return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")


def started(pid: int) -> int:
    """Return when a process was started, in ticks since the machine was; ids come round again."""
    return int(_stat_fields(_PROC / str(pid) / "stat")[19])


def on_core(core: int) -> AbstractContextManager[None]:
    """Keep this thread, and every process it starts meanwhile, on one core."""
    return on_cores([core])


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """Keep this thread, and every process it starts meanwhile, on some cores; none: on all."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
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
