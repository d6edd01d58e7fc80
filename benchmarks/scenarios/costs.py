"""What a server's processes used while a load was on: CPU by process, memory over time.

Processes come and go meanwhile (workers are killed, replaced, restarted), so each is
read again and again, and what it had used when it was last seen counts.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from benchmarks.scenarios.processes import (
    CpuTime,
    command_line,
    cpu_of,
    family,
    machine_time,
    resident_of,
    run_wait_s,
)

_MIB = 2**20


@dataclass(slots=True)
class _Process:
    """One process as it was first and last seen."""

    role: str
    first: CpuTime
    last: CpuTime
    first_wait_s: float
    last_wait_s: float
    most_bytes: int = 0


class Costs:
    """The books on a server's processes.

    Args:
        roots: Returns the first process of each server; it may change meanwhile.
    """

    def __init__(self, roots: Callable[[], list[int]]) -> None:
        self._roots = roots
        self._processes: dict[int, _Process] = {}
        self._began = time.perf_counter()
        self._memory: list[tuple[float, float]] = []
        self._own_s = time.process_time()
        self._machine = self._machine_now = machine_time()
        self.look()

    def look(self) -> None:
        """Read all processes once."""
        new = not self._memory
        total = 0
        for root in self._roots():
            with suppress(FileNotFoundError, ProcessLookupError, OSError):
                for pid in family(root):
                    total += self._read(pid, root, from_start=not new)
        at_s = time.perf_counter() - self._began
        self._memory.append((round(at_s, 2), round(total / _MIB, 1)))
        self._machine_now = machine_time()

    def as_data(self, certificates: int) -> dict[str, Any]:
        """Return what was used since the first look.

        Args:
            certificates: What it is divided by.
        """
        per = 1e6 / certificates if certificates else 0.0
        processes = [
            {
                "process": process.role,
                "cpu_s": (process.last - process.first).total_s,
                "cpu_us": (process.last - process.first).total_s * per,
                "user_us": (process.last - process.first).user_s * per,
                "system_us": (process.last - process.first).system_s * per,
                "waited_s": process.last_wait_s - process.first_wait_s,
                "most_mib": process.most_bytes / _MIB,
            }
            for process in self._processes.values()
        ]
        return {
            "cpu_s": sum(process["cpu_s"] for process in processes),
            "cpu_us": sum(process["cpu_us"] for process in processes),
            "by_process": processes,
            "memory_mib": self._memory,
        }

    def machine_as_data(self, known_s: float) -> dict[str, float]:
        """Return what else went on, for a figure is only good on a machine of its own.

        Args:
            known_s: CPU time of the server and the drivers.
        """
        seconds = time.perf_counter() - self._began
        busy_s = self._machine_now.busy_s - self._machine.busy_s
        own_s = time.process_time() - self._own_s
        return {
            "seconds": seconds,
            "others_cpus": max(busy_s - known_s - own_s, 0.0) / seconds,
            "stolen_cpus": (self._machine_now.stolen_s - self._machine.stolen_s) / seconds,
        }

    def _read(self, pid: int, root: int, *, from_start: bool) -> int:
        """Read one process; return its resident memory in bytes."""
        try:
            cpu, wait_s, resident = cpu_of(pid), run_wait_s(pid), resident_of(pid)
        except (OSError, ValueError, IndexError):
            return 0  # it has ended since it was listed
        known = self._processes.get(pid)
        if known is None:
            known = self._note(pid, root, cpu, wait_s, from_start=from_start)
        known.last, known.last_wait_s = cpu, wait_s
        known.most_bytes = max(known.most_bytes, resident)
        return resident

    def _note(
        self, pid: int, root: int, cpu: CpuTime, wait_s: float, *, from_start: bool
    ) -> _Process:
        nothing = CpuTime(total_s=0, user_s=0, system_s=0)
        process = _Process(
            role=self._role(pid, root),
            first=nothing if from_start else cpu,
            last=cpu,
            first_wait_s=0.0 if from_start else wait_s,
            last_wait_s=wait_s,
        )
        self._processes[pid] = process
        return process

    def _role(self, pid: int, root: int) -> str:
        """Return a name for the report: by the command line for workers, else by the place."""
        roles = [process.role for process in self._processes.values()]
        if "meshsigner.workers.worker" in command_line(pid):
            return f"worker {sum(role.startswith('worker') for role in roles)}"
        return "first process" if pid == root else "other"
