"""The benchmarks' command line: `python -m benchmarks SCENARIO`."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.commands import Options, command_of, run_all, take_options
from benchmarks.load.report import save
from benchmarks.micro import node_index, postgres
from benchmarks.peers import commands as peers_commands
from benchmarks.progress import Display
from benchmarks.reporting.compare import compare_runs
from benchmarks.reporting.files import load_run
from benchmarks.reporting.picture import save_picture
from benchmarks.scenarios import agent, one_core, one_core_report
from benchmarks.scenarios.backends import BACKENDS
from benchmarks.scenarios.every import EVERY
from benchmarks.scenarios.material import Plan
from benchmarks.scenarios.mint import cache_directory
from benchmarks.scenarios.mixed import MIXED
from benchmarks.scenarios.servers import ServerFailedError
from benchmarks.scenarios.soak import SOAK
from examples.envoy.processes import PartFailedError

app = typer.Typer(
    help="Measure meshsigner. Every scenario starts the servers it needs, on loopback only.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def benchmarks() -> None:
    """Measure meshsigner. Every scenario starts the servers it needs, on loopback only."""


@app.command(
    "one-core",
    epilog="Example: python -m benchmarks one-core --rounds 7 --calls 3000 --json",
)
def one_core_command(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each kind of call.")] = 7,
    calls: Annotated[int, typer.Option(min=1, help="Calls of each kind in a round.")] = 3000,
    lone: Annotated[int, typer.Option(min=60, help="Calls with nothing else under way.")] = 300,
    results: Annotated[Path, typer.Option(help="Where results go.")] = Path("bench-results"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Server CPU per certificate in empty calls, lone latency, memory, start.

    Exits with 1 if any caller got a refusal or another's certificate, with 2 if a server
    failed to start. A missed goal is a result, not a failure.
    """
    plan = Plan(rounds=rounds, calls=calls, warm_up=max(calls // 4, 1), lone=lone)
    console = Console(stderr=True)
    with Display(console) as display:
        try:
            measured = one_core.run(plan, results / "work", cache_directory(), display.stage)
        except ServerFailedError as error:
            console.print(f"[red]{error}[/red]")
            raise typer.Exit(2) from error
    data = one_core_report.as_data(measured)
    file = save(results, "one-core", data)
    _show(measured, data, file, as_json=as_json)
    if data["faults"]:
        raise typer.Exit(1)


@app.command("agent", epilog="Example: python -m benchmarks agent --json")
def agent_command(
    streams: Annotated[int, typer.Option(min=1, help="Streams that are pushed to.")] = 1000,
    rotations: Annotated[int, typer.Option(min=2, help="Rotations on the way to Envoy.")] = 200,
    results: Annotated[Path, typer.Option(help="Where results go.")] = Path("bench-results"),
    envoy: Annotated[Path, typer.Option(help="Envoy's command.")] = Path(".servers/bin/envoy"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """The agent: memory at rest, CPU of a rotation, pushes, and the way to a real Envoy.

    Exits with 2 if something failed to start. A missed goal is a result, not a failure.
    """
    plan = agent.AgentPlan(
        starts=3, workloads=50, rotation_s=30, streams=streams, pushes=5, rotations=rotations
    )
    meshsigner = Path(sys.executable).with_name("meshsigner")
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            measured = agent.run(plan, Path(directory), meshsigner, envoy.resolve())
    except PartFailedError as error:
        Console(stderr=True).print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error
    data = agent.as_data(measured)
    file = save(results, "agent", data)
    if as_json:
        json.dump(data, sys.stdout, indent=2)
        print()
        return
    console = Console()
    console.print(agent.figures(measured))
    console.print(f"everything measured: {file}")


def _show(measured: one_core.Results, data: dict[str, Any], file: Path, *, as_json: bool) -> None:
    if as_json:
        json.dump(data, sys.stdout, indent=2)
        print()
        return
    console = Console()
    console.print(one_core_report.verdict_table(measured))
    console.print(one_core_report.cost_table(measured))
    for fault in one_core_report.faults(measured):
        console.print(f"[red]{fault}[/red]")
    load = data["machine"]["load_average"][0]
    console.print(f"load average {load:.1f}: above 2, others share the cores and figures grow")
    console.print(f"everything measured: {file}")


app.command("postgres")(postgres.command)
app.command("node-index")(node_index.command)


@app.command("compare", epilog="Example: python -m benchmarks compare A.json B.json")
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Results of two runs or more, JSON.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("bench-results/compare.html"),
) -> None:
    """Put runs side by side on one page, of one server at two times or of two servers."""
    compared = [(file.stem, load_run(file)) for file in runs]
    out.parent.mkdir(parents=True, exist_ok=True)
    page, figures = compare_runs(compared)
    out.write_text(page)
    console = Console()
    console.print(figures)
    console.print(f"the page: {out}")


@app.command(
    "picture", epilog="Example: python -m benchmarks picture RUN.json docs/images/churn.svg"
)
def picture_command(
    run: Annotated[Path, typer.Argument(help="A run's results, JSON.")],
    picture: Annotated[Path, typer.Argument(help="The SVG file.")],
    stretch: Annotated[str, typer.Option(help="Which stretch; the last one.")] = "",
) -> None:
    """Draw the small picture of a run, as the README shows it."""
    save_picture(picture, load_run(run), stretch)


def all_command(**values: Any) -> None:
    """Run the short form of every scenario."""
    run_all(EVERY, Options(**values))


take_options(all_command)
app.command("all")(all_command)
for scenario in (*EVERY, SOAK, MIXED, BACKENDS):
    app.command(scenario.name)(command_of(scenario))

peers_commands.register(app)

if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
