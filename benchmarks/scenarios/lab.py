"""What a scenario works with: a server, prepared calls, drivers, and a place for what it finds."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from benchmarks.load.audit import Auditor, compare_inventory
from benchmarks.load.keys import KeyType
from benchmarks.load.loads import CallSlice, Closed, Fresh, Load, Pace, Way
from benchmarks.load.report import machine
from benchmarks.load.tokens import TokenIssuer
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.mesh import Mesh, make_mesh
from benchmarks.scenarios.mint import Mint
from benchmarks.scenarios.poison import Spoil
from benchmarks.scenarios.processes import resident_bytes
from benchmarks.scenarios.servers import ServerFailedError, free_port
from benchmarks.scenarios.stretch import Bench, Event, Stretch, Watch
from benchmarks.scenarios.subject import Running, Setup, Subject

FORM: Final = 1
"""Version of the result files."""

_WARM_UP_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a scenario is run with.

    Args:
        subject: The kind of server.
        tokens: Issuer of the callers' tokens; None for servers that are started here.
        trust_domain: Of the callers' identities.
        workers: Server processes.
        server_cores: CPUs of the server; none: all.
        driver_cores: CPUs of the drivers; none: all.
        drivers: Driver processes of the main load.
        csr: Kind of the callers' keys.
        ca: Kind of the CA's key.
        seconds: Length of a stretch; None is the scenario's own.
        rate: Rate of open loops per second; None: found by measuring.
        total: Certificates of a closed loop; None: as many as the time allows.
        connections: Size of a herd or of a population, where a scenario has one.
        warm_up: Calls before the first figure.
        work: Directory for states, logs and what drivers bring back; emptied first.
        cache: Where prepared calls stay.
    """

    subject: Subject
    tokens: TokenIssuer | None
    trust_domain: str
    workers: int
    server_cores: tuple[int, ...]
    driver_cores: tuple[int, ...]
    drivers: int
    csr: KeyType
    ca: KeyType
    seconds: float | None
    rate: float | None
    total: int | None
    connections: int | None
    warm_up: int
    work: Path
    cache: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number that was looked for.

    Args:
        name: What it is.
        value: The number.
        unit: Its unit.
        goal: What it should be, in words; empty if nothing is asked of it.
        met: Whether it is; None without a goal.
    """

    name: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that must hold, whatever the figures are.

    Args:
        name: What.
        holds: Whether it does.
        detail: What was seen.
    """

    name: str
    holds: bool
    detail: str


@dataclass(slots=True)
class _Findings:
    stretches: list[Stretch] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    server: dict[str, Any] = field(default_factory=dict)


class Lab:
    """One run of one scenario.

    Args:
        name: The scenario's.
        settings: What it is run with.
        on_stage: Told about preparations.
        watch: Looks on at loads.
    """

    def __init__(self, name: str, settings: Settings, on_stage: OnStage, watch: Watch) -> None:
        shutil.rmtree(settings.work, ignore_errors=True)
        settings.work.mkdir(parents=True)
        self.name = name
        self.settings = settings
        self.mesh: Mesh = make_mesh(settings.work, settings.cache, settings.ca)
        self._mint = Mint(
            tokens=settings.tokens or self.mesh.tokens,
            trust_domain=settings.trust_domain,
            cache=settings.cache,
            on_stage=on_stage,
        )
        self._port = free_port()
        self._auditor = Auditor(self.mesh.trusted() if settings.tokens is None else ())
        self._bench = Bench(directory=settings.work, auditor=self._auditor, watch=watch)
        self._running: list[Running] = []
        self._found = _Findings()
        self.watch = watch

    @contextmanager
    def server(self, **settings: Any) -> Iterator[Running]:
        """Have the server for the length of a block, always on the same port and state.

        Args:
            settings: Sections of its configuration that differ from the usual ones.

        Raises:
            ServerFailedError: It did not start.
        """
        setup = Setup(
            directory=self.settings.work / "server",
            mesh=self.mesh,
            workers=self.settings.workers,
            cores=self.settings.server_cores,
            port=self._port,
            settings=settings,
        )
        with self.settings.subject.running(setup) as running:
            self._running.append(running)
            self._found.server = {
                "name": running.name,
                "workers": self.settings.workers,
                "cores": list(self.settings.server_cores),
                "ready_after_s": running.ready_after_s,
                "settings": dict(running.settings),
            }
            try:
                yield running
            finally:
                self._running.remove(running)

    def trust(self, roots: Sequence[x509.Certificate]) -> None:
        """Take further roots for good."""
        self._auditor.trust(roots)

    def memory_mib(self) -> float:
        """Return the resident memory of all server processes now; 0 if they are not here."""
        pids = [running.pid for running in self._running if running.pid is not None]
        return sum(sum(resident_bytes(pid)) for pid in pids) / 2**20

    @property
    def issuers(self) -> int:
        """How many different chains above the leaf clients have got so far."""
        return len(self._auditor.issuers)

    @property
    def running(self) -> Running:
        """The server that runs now."""
        return self._running[-1]

    def calls(
        self, prefix: str, count: int, csr: KeyType | None = None, spoil: Spoil | None = None
    ) -> CallSlice:
        """Return prepared calls; see `Mint.calls`."""
        return self._mint.calls(prefix, count, csr or self.settings.csr, spoil)

    def calls_of(
        self,
        tokens: TokenIssuer,
        prefix: str,
        count: int,
        csr: KeyType,
        spoil: Spoil | None = None,
    ) -> CallSlice:
        """Return prepared calls with tokens of another issuer."""
        return replace(self._mint, tokens=tokens).calls(prefix, count, csr, spoil)

    @property
    def token_issuer(self) -> TokenIssuer:
        """Who issues the callers' tokens."""
        return self._mint.tokens

    def load(
        self,
        name: str,
        calls: CallSlice,
        pace: Pace,
        way: Way | None = None,
        *,
        drivers: int | None = None,
    ) -> Load:
        """Return a load on the server that runs now.

        Args:
            name: For the report.
            calls: What is asked.
            pace: When.
            way: Over what; new connections by default.
            drivers: Driver processes, if not the usual number.
        """
        return Load(
            name=name,
            server=self.running.server,
            calls=calls,
            pace=pace,
            way=way or Fresh(),
            processes=drivers or self.settings.drivers,
            cores=self.settings.driver_cores,
        )

    def warm_up(self, way: Way | None = None, *, in_flight: int = 16) -> None:
        """Send some calls that no figure counts.

        Raises:
            ServerFailedError: The server grants nothing; there is no point in going on.
        """
        pace = Closed(in_flight=in_flight * self.settings.workers, seconds=_WARM_UP_S)
        calls = self.calls("warm-up", self.settings.warm_up)
        stretch = self.measure("warm-up", [self.load("calls", calls, pace, way)])
        if not stretch.first.right:
            answers = dict(stretch.first.messages.most_common(3))
            raise ServerFailedError(f"the server grants nothing: {answers}")

    def measure(self, name: str, loads: Sequence[Load], events: Sequence[Event] = ()) -> Stretch:
        """Put loads on the server, keep what was measured, and return it.

        Raises:
            DriverFailedError: A driver could not do its share.
        """
        stretch = self._bench.measure(name, lambda: list(self._running), loads, events)
        self._found.stretches.append(stretch)
        self._check_stretch(stretch)
        return stretch

    def figure(self, name: str, value: float, unit: str, *, at_most: float | None = None) -> None:
        """Note a figure, with its goal if it has one."""
        goal = "" if at_most is None else f"at most {at_most:g} {unit}"
        met = None if at_most is None else value <= at_most
        self._found.figures.append(Figure(name=name, value=value, unit=unit, goal=goal, met=met))

    def figure_at_least(self, name: str, value: float, unit: str, at_least: float) -> None:
        """Note a figure that should not be smaller than its goal."""
        goal = f"at least {at_least:g} {unit}"
        self._found.figures.append(
            Figure(name=name, value=value, unit=unit, goal=goal, met=value >= at_least)
        )

    def check(self, name: str, detail: str, *, holds: bool) -> None:
        """Note whether something holds that must."""
        self._found.checks.append(Check(name=name, holds=holds, detail=detail))

    def check_inventory(self, *, undelivered_allowed: bool = False) -> None:
        """Compare what clients received with what the server has written down.

        Args:
            undelivered_allowed: Whether rows may be there whose certificate no client got,
                as after a crash, or when callers gave up.
        """
        if self.running.inventory is None:
            return
        found = compare_inventory(self._auditor.issued, self.running.inventory.recorded())
        detail = f"{found.received} received, {found.recorded} recorded"
        for name, serials in (
            ("missing", found.missing),
            ("different", found.different),
            ("doubled", found.doubled),
        ):
            detail += f", {len(serials)} {name}" + (f" ({serials[0]})" if serials else "")
        detail += f", {found.undelivered} recorded and not received"
        holds = found.clean and (undelivered_allowed or not found.undelivered)
        self.check("inventory: every certificate has its one row", detail, holds=holds)

    def as_data(self) -> dict[str, Any]:
        """Return all that was found, for a file."""
        settings = self.settings
        return {
            "form": FORM,
            "scenario": self.name,
            "server": self._found.server,
            "driver": {
                "processes": settings.drivers,
                "cores": list(settings.driver_cores),
                "csr": settings.csr,
                "ca": settings.ca,
                "rsa_keys": "a pool of 512, each CSR with its own identity",
            },
            "machine": machine(),
            "figures": [asdict(figure) for figure in self._found.figures],
            "checks": [asdict(check) for check in self._found.checks],
            "stretches": [stretch.data for stretch in self._found.stretches],
        }

    @property
    def stretches(self) -> list[Stretch]:
        """What was measured so far."""
        return self._found.stretches

    @property
    def checks(self) -> list[Check]:
        """What was checked so far."""
        return self._found.checks

    def _check_stretch(self, stretch: Stretch) -> None:
        for ledger in stretch.ledgers:
            name = f"{stretch.name}, {ledger.load.name}: every certificate is its caller's own"
            detail = f"{ledger.right} right, {ledger.faulty} wrong"
            if ledger.faults:
                detail += f": {ledger.faults[0]}"
            self.check(name, detail, holds=not ledger.faulty)
            if ledger.ran_dry:
                self.check(f"{stretch.name}: enough calls", "they ran out", holds=False)
