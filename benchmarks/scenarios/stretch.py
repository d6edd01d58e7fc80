"""One measured stretch: loads on a server, what it cost, what callers saw, what it says."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.load.audit import Auditor
from benchmarks.load.crew import Crew
from benchmarks.load.ledger import Ledger
from benchmarks.load.loads import Load
from benchmarks.load.records import read_results
from benchmarks.scenarios.costs import Costs
from benchmarks.scenarios.processes import on_cores
from benchmarks.scenarios.scrape import Scrape
from benchmarks.scenarios.subject import Running

_LOOK_S: Final = 0.5
_SCRAPE_EVERY: Final = 4  # looks; a scrape costs the supervisor some milliseconds
_SETTLE_S: Final = 0.3
"""Time for what a server does after its answers: logs, metrics, late bookkeeping."""


class Watch(Protocol):
    """Who looks on while a load runs."""

    def begin(self, name: str, expected: int) -> None:
        """A stretch begins; `expected` answers are due, 0 if that is not known."""

    def moved(self, done: int, granted: int) -> None:
        """So many answers have come, so many of them certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that is done to the server while the load is on.

    Args:
        at_s: When, from the start.
        name: For the report.
        act: Does it; runs beside the load, in a thread of its own.
    """

    at_s: float
    name: str
    act: Callable[[], None]


@dataclass(slots=True, kw_only=True)
class Stretch:
    """A stretch that was measured.

    Args:
        name: For the report.
        ledgers: The books of each load.
        data: All of it, for a file.
    """

    name: str
    ledgers: list[Ledger]
    data: dict[str, Any] = field(repr=False)

    @property
    def first(self) -> Ledger:
        """The books of the load that is measured; others only disturb."""
        return self.ledgers[0]

    @property
    def per_s(self) -> float:
        """Certificates of the first load per second."""
        return self.first.right / self.first.seconds if self.first.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where stretches are measured.

    Args:
        directory: For what drivers bring back; emptied after each stretch.
        auditor: Judges certificates; one for the whole run, so that no serial comes twice.
        watch: Looks on.
    """

    directory: Path
    auditor: Auditor
    watch: Watch

    def measure(
        self,
        name: str,
        servers: Callable[[], Sequence[Running]],
        loads: Sequence[Load],
        events: Sequence[Event] = (),
    ) -> Stretch:
        """Put loads on a server and return what came of it.

        Args:
            name: For the report.
            servers: The servers that run now; more than one only while one is replaced.
            loads: What is put on them, the one that is measured first.
            events: What happens meanwhile.

        Raises:
            DriverFailedError: A driver could not do its share.
        """
        expected = sum(load.calls.count for load in loads if _ends_with_its_calls(load))
        self.watch.begin(name, expected)
        with on_cores(loads[0].cores), Crew(loads, self.directory) as crew:
            crew.wait_ready()
            costs, scrape = _books(servers)
            with _looking(costs, scrape):
                happened = self._run(crew, events)
            crew.release()
        ledgers = self._add_up(crew, loads)
        return _stretch(name, ledgers, costs, scrape, happened)

    def _run(self, crew: Crew, events: Sequence[Event]) -> list[dict[str, Any]]:
        """Let the drivers work to their end; return what happened when."""
        crew.go()
        happenings = [_Happening(event, crew.start_ns) for event in events]
        while crew.working:
            crew.listen(0.2)
            done = sum(driver.done for driver in crew.drivers)
            self.watch.moved(done, sum(driver.granted for driver in crew.drivers))
        for happening in happenings:
            happening.thread.join()
        time.sleep(_SETTLE_S)
        failed = [happening.error for happening in happenings if happening.error]
        if failed:
            raise failed[0]
        return [happening.data for happening in happenings]

    def _add_up(self, crew: Crew, loads: Sequence[Load]) -> list[Ledger]:
        ledgers = [Ledger(load, crew.start_ns, self.auditor) for load in loads]
        by_load = dict(zip(map(id, loads), ledgers, strict=True))
        for driver in crew.drivers:
            ledger = by_load[id(driver.task.load)]
            if driver.report is not None:
                ledger.hear(driver.report)
            ledger.take(read_results(driver.task.outcomes))
            driver.task.outcomes.unlink()
        return ledgers


class _Happening:
    """An event on its way, in a thread of its own."""

    def __init__(self, event: Event, start_ns: int) -> None:
        self._event = event
        self._start_ns = start_ns
        self.data: dict[str, Any] = {"name": event.name}
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._happen, daemon=True)
        self.thread.start()

    def _happen(self) -> None:
        time.sleep(max(self._event.at_s - self._since(), 0))
        self.data["at_s"] = round(self._since(), 2)
        try:
            self._event.act()
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits for it
            self.error = error
        self.data["done_s"] = round(self._since(), 2)

    def _since(self) -> float:
        return (time.perf_counter_ns() - self._start_ns) / 1e9


def _ends_with_its_calls(load: Load) -> bool:
    return type(load.pace).__name__ in {"Closed", "Arrivals"}


def _books(servers: Callable[[], Sequence[Running]]) -> tuple[Costs, Scrape]:
    def roots() -> list[int]:
        return [running.pid for running in servers() if running.pid is not None]

    def url() -> str:
        return next((running.metrics_url for running in servers()), "")

    return Costs(roots), Scrape(url)


@contextmanager
def _looking(costs: Costs, scrape: Scrape) -> Iterator[None]:
    """Look at processes and gauges again and again for the length of a block."""
    over = threading.Event()

    def look() -> None:
        looks = 0
        while not over.wait(_LOOK_S):
            costs.look()
            looks += 1
            if looks % _SCRAPE_EVERY == 0:
                scrape.look()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        costs.look()


def _stretch(
    name: str,
    ledgers: list[Ledger],
    costs: Costs,
    scrape: Scrape,
    happened: list[dict[str, Any]],
) -> Stretch:
    first = ledgers[0]
    certificates = sum(ledger.right for ledger in ledgers)
    driver_s = sum(ledger.driver_cpu_s for ledger in ledgers)
    server = costs.as_data(certificates)
    data = {
        "name": name,
        "certificates": certificates,
        "per_s": first.right / first.seconds if first.seconds else 0.0,
        "server": server,
        "machine": costs.machine_as_data(server["cpu_s"] + driver_s),
        "driver_cpu_us": driver_s / certificates * 1e6 if certificates else 0.0,
        "events": happened,
        "loads": [ledger.as_data() for ledger in ledgers],
        "metrics": scrape.as_data(),
    }
    return Stretch(name=name, ledgers=ledgers, data=data)
