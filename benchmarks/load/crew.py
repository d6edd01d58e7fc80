"""The driver processes of a run: started, told when to begin, listened to, ended.

Fresh interpreters, never forks. All begin at one moment of the monotonic clock, which
all processes of a machine share.
"""

import multiprocessing
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.load.arrivals import NS_PER_S
from benchmarks.load.loads import Load
from benchmarks.load.shift import Report, Task, work

READY_S: Final = 180.0
_HEAD_START_S: Final = 0.1
_END_S: Final = 20.0


class DriverFailedError(Exception):
    """A driver process could not do its share; the text says why."""


@dataclass(slots=True)
class Driver:
    """A driver process as its parent sees it.

    Args:
        task: What it has to do.
        process: The process.
        pipe: The parent's end.
        ready: Whether it waits for the start.
        done: How many answers it has got so far.
        granted: Of these, certificates.
        report: What it said at the end.
    """

    task: Task
    process: SpawnProcess
    pipe: Pipe
    ready: bool = False
    done: int = 0
    granted: int = 0
    report: Report | None = None
    _told_to_stop: bool = field(default=False, repr=False)

    def hear(self) -> None:
        """Take one message in.

        Raises:
            DriverFailedError: It failed, or its process has ended.
        """
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise DriverFailedError(f"{self.task.load.name}: the driver process died") from error
        self._take(kind, content)

    def stop(self) -> None:
        """Tell it to end; it goes on until what it has to do is done."""
        if not self._told_to_stop:
            self._told_to_stop = True
            with suppress(OSError):
                self.pipe.send("stop")

    def _take(self, kind: str, content: Any) -> None:
        match kind:
            case "ready":
                self.ready = True
            case "progress":
                self.done, self.granted = content
            case "done":
                self.report = content
            case _:
                raise DriverFailedError(f"{self.task.load.name}: {content}")


class Crew:
    """All driver processes of a run; a context manager that leaves none behind.

    Args:
        loads: What they have to do.
        directory: Where their outcomes go.
    """

    def __init__(self, loads: Sequence[Load], directory: Path) -> None:
        shares = [(load, number) for load in loads for number in range(load.processes)]
        self.drivers = [
            _start(load, number, seat, directory) for seat, (load, number) in enumerate(shares)
        ]
        self.start_ns = 0

    def __enter__(self) -> Self:
        """Return the crew; its processes are on their way."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        for driver in self.drivers:
            driver.stop()
        for driver in self.drivers:
            driver.process.join(_END_S)
            if driver.process.is_alive():
                driver.process.kill()
                driver.process.join()

    def wait_ready(self) -> None:
        """Wait until all have opened what must stand before the start.

        Raises:
            DriverFailedError: One could not, or took too long.
        """
        deadline = time.perf_counter() + READY_S
        while not all(driver.ready for driver in self.drivers):
            if time.perf_counter() > deadline:
                raise DriverFailedError(f"drivers not ready after {READY_S:.0f} s")
            self.listen(0.5)

    def go(self) -> None:
        """Let all begin at one moment."""
        self.start_ns = time.perf_counter_ns() + round(_HEAD_START_S * NS_PER_S)
        for driver in self.drivers:
            driver.pipe.send(self.start_ns)

    def listen(self, timeout_s: float) -> None:
        """Take in what the processes say, for at most so long.

        Raises:
            DriverFailedError: One failed.
        """
        talking = {driver.pipe: driver for driver in self.drivers if driver.report is None}
        for pipe in connection.wait(list(talking), timeout_s):
            if isinstance(pipe, Pipe):
                talking[pipe].hear()

    @property
    def working(self) -> bool:
        """Whether a load that ends by itself is still on."""
        return any(d.report is None for d in self.drivers if not d.task.load.is_herd)

    def release(self) -> None:
        """Let the herds close their connections.

        Raises:
            DriverFailedError: One failed.
        """
        herds = [driver for driver in self.drivers if driver.task.load.is_herd]
        for driver in herds:
            driver.stop()
        while any(driver.report is None for driver in herds):
            self.listen(0.5)


def _start(load: Load, number: int, seat: int, directory: Path) -> Driver:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    outcomes = directory / f"outcomes-{seat}.bin"
    task = Task(load=load, number=number, of=load.processes, seat=seat, outcomes=outcomes)
    process = context.Process(target=work, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()
    return Driver(task=task, process=process, pipe=ours)
