"""Scenarios as commands: `python -m benchmarks SCENARIO`, all with the same options."""

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console

from benchmarks.load.client import Server
from benchmarks.load.crew import DriverFailedError
from benchmarks.load.keys import KeyType
from benchmarks.load.tokens import TokenIssuer
from benchmarks.peers.authority import ISSUER, TRUST_DOMAIN
from benchmarks.progress import Display
from benchmarks.reporting.files import save_run
from benchmarks.reporting.picture import save_picture
from benchmarks.reporting.terminal import show
from benchmarks.scenarios.lab import Lab, Settings
from benchmarks.scenarios.mesh import load_token_issuer
from benchmarks.scenarios.mint import cache_directory
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.servers import ServerFailedError
from benchmarks.scenarios.subject import Subject
from benchmarks.scenarios.subjects import Foreign, IstioCa, Meshsigner

FAILED: Final = 1
NOT_STARTED: Final = 2
_WARM_UP: Final = 1_000
_SHORT_WARM_UP: Final = 200

_SUBJECTS: Final[dict[str, Callable[[], Subject]]] = {
    "meshsigner": Meshsigner,
    "istio-ca": IstioCa,
}


def _option(text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says of a run; the fields' own help says what they are."""

    seconds: Annotated[float | None, _option("Length of each stretch.", min=1)] = None
    minutes: Annotated[float | None, _option("The same in minutes.", min=0.1)] = None
    rate: Annotated[float | None, _option("Calls per second in open loop.", min=1)] = None
    total: Annotated[
        int | None, _option("Certificates in closed loop.", "--total", "--requests", min=1)
    ] = None
    connections: Annotated[
        int | None, _option("Size of the herd or population; connections of warm.", min=1)
    ] = None
    short: Annotated[bool, _option("The short form.", "--short")] = False
    workers: Annotated[
        int | None, _option("Worker processes of the server; as a rule 1.", min=1)
    ] = None
    cores: Annotated[str, _option("CPUs of the server, as 0,1; as many as workers.")] = ""
    driver_cores: Annotated[str, _option("CPUs of the drivers; those that are left.")] = ""
    drivers: Annotated[int, _option("Driver processes of the main load.", min=1)] = 1
    rsa_csr: Annotated[
        bool | None, _option("Callers' keys; the scenario's own.", "--rsa-csr/--p256-csr")
    ] = None
    ca: Annotated[KeyType, _option("Kind of the CA's key.")] = "p256"
    out: Annotated[Path, _option("Where reports go.")] = Path("bench-results")
    picture: Annotated[
        Path | None, _option("SVG file for the small picture of the last stretch.")
    ] = None
    subject: Annotated[Literal["meshsigner", "istio-ca"], _option("Which server is started.")] = (
        "meshsigner"
    )
    server: Annotated[str, _option("HOST:PORT of a server that runs already.")] = ""
    root: Annotated[Path | None, _option("PEM with that server's roots.")] = None
    token_key: Annotated[Path | None, _option("PEM key of a token issuer it trusts.")] = None
    token_key_id: Annotated[str, _option("The `kid` of that key.")] = "bench"  # noqa: S105
    token_issuer: Annotated[str, _option("The `iss` of its tokens.")] = ISSUER
    trust_domain: Annotated[str, _option("Trust domain of that server's mesh.")] = TRUST_DOMAIN
    server_name: Annotated[str, _option("Host name in that server's certificate.")] = "localhost"
    server_pid: Annotated[int | None, _option("Its first process, to count its CPU.")] = None
    metrics_url: Annotated[str, _option("Where its metrics are.")] = ""
    as_json: Annotated[bool, _option("Print the results as JSON.", "--json")] = False

    def settings(self, scenario: Scenario) -> Settings:
        """Return what a scenario is run with.

        Raises:
            typer.BadParameter: Options contradict each other.
        """
        subject, tokens = self._subject()
        workers = self.workers or scenario.workers
        cores = _cores(self.cores) or _first_cores(workers)
        usual = scenario.short_connections if self.short else scenario.connections
        return Settings(
            subject=subject,
            tokens=tokens,
            trust_domain=self.trust_domain if self.server else TRUST_DOMAIN,
            workers=workers,
            server_cores=cores,
            driver_cores=_cores(self.driver_cores) or _other_cores(cores),
            drivers=self.drivers,
            csr=self._csr(scenario),
            ca=self.ca,
            seconds=self._seconds() or (scenario.short_s if self.short else None),
            rate=self.rate,
            total=self.total,
            connections=self.connections or usual or None,
            warm_up=_SHORT_WARM_UP if self.short else _WARM_UP,
            work=self.out / "work",
            cache=cache_directory(),
        )

    def _seconds(self) -> float | None:
        return self.seconds if self.minutes is None else 60 * self.minutes

    def _csr(self, scenario: Scenario) -> KeyType:
        if self.rsa_csr is None:
            return scenario.csr
        return "rsa2048" if self.rsa_csr else "p256"

    def _subject(self) -> tuple[Subject, TokenIssuer | None]:
        """Return the server, and the issuer of tokens if it is not ours."""
        if not self.server:
            return _SUBJECTS[self.subject](), None
        if self.root is None or self.token_key is None:
            raise typer.BadParameter("--server needs --root and --token-key")
        host, _, port = self.server.rpartition(":")
        if not host or not port.isdecimal():
            raise typer.BadParameter(f"{self.server!r} is not HOST:PORT")
        server = Server(host=host, port=int(port), name=self.server_name, roots=self.root)
        tokens = load_token_issuer(
            self.token_key, key_id=self.token_key_id, issuer=self.token_issuer
        )
        return Foreign(server=server, pid=self.server_pid, metrics_url=self.metrics_url), tokens


def run_scenario(scenario: Scenario, options: Options) -> dict[str, Any]:
    """Run a scenario, write its report, show it, and return its results.

    Raises:
        typer.Exit: A server or a driver did not start.
    """
    console = Console(stderr=True)
    with Display(console) as display:
        lab = Lab(scenario.name, options.settings(scenario), display.stage, display)
        try:
            scenario.run(lab)
        except (ServerFailedError, DriverFailedError) as error:
            console.print(f"[red]{error}[/red]")
            raise typer.Exit(NOT_STARTED) from error
    data = lab.as_data() | {"title": scenario.title}
    page = save_run(options.out, data)
    if options.picture is not None:
        save_picture(options.picture, data)
    if not options.as_json:
        show(Console(), data, page)
    return data


def command_of(scenario: Scenario) -> Callable[..., None]:
    """Return the command of a scenario; its options are the fields of `Options`."""

    def command(**values: Any) -> None:
        options = Options(**values)
        data = run_scenario(scenario, options)
        if options.as_json:
            json.dump(data, sys.stdout, indent=2)
        if not all(check["holds"] for check in data["checks"]):
            raise typer.Exit(FAILED)

    take_options(command)
    command.__doc__ = scenario.help
    return command


def take_options(command: Callable[..., None]) -> None:
    """Give a command that takes keywords the fields of `Options` as its options."""
    command.__signature__ = inspect.signature(Options)  # type: ignore[attr-defined]
    command.__annotations__ = {field.name: field.type for field in fields(Options)}


def _cores(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(core) for core in text.split(",") if core.strip())
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of CPUs such as 0,1") from error


def _first_cores(workers: int) -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0)))[:workers]


def _other_cores(taken: tuple[int, ...]) -> tuple[int, ...]:
    """Return the CPUs that the server does not use; all if it uses all."""
    every = os.sched_getaffinity(0)
    return tuple(sorted(every - set(taken) or every))


def run_all(scenarios: Iterable[Scenario], options: Options) -> None:
    """Run the short form of several scenarios, whatever becomes of the ones before.

    Raises:
        typer.Exit: A check of one failed.
    """
    failed = []
    for scenario in scenarios:
        data = run_scenario(scenario, replace(options, short=True))
        failed += [check["name"] for check in data["checks"] if not check["holds"]]
    if failed:
        raise typer.Exit(FAILED)
