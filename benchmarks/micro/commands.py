"""The small measurements' part of the command line."""

from typing import Annotated, Final

import typer
from rich.console import Group

from benchmarks.micro import group_commit, herd_memory, refusals, turns, variants, workers
from benchmarks.peers.running import RESULTS, AsJson, Calls, Results, Rounds, measuring, show

_VARIANTS_EXAMPLE: Final = (
    "Example: python -m benchmarks variants --variant GRPC_EXPERIMENTS=-event_engine_listener"
)


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command("turns", epilog="Example: python -m benchmarks turns --rounds 3")(_turns)
    app.command("group-commit", epilog="Example: python -m benchmarks group-commit --json")(
        _group_commit
    )
    app.command("workers", epilog="Example: python -m benchmarks workers --rounds 5")(_workers)
    app.command("refusals", epilog="Example: python -m benchmarks refusals --rounds 3")(_refusals)
    app.command("variants", epilog=_VARIANTS_EXAMPLE)(_variants)
    app.command("herd-memory", epilog="Example: python -m benchmarks herd-memory")(_herd_memory)


def _turns(
    rounds: Rounds = 3,
    open_s: Annotated[float, typer.Option(min=1, help="Length of each open loop.")] = 3.0,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
) -> None:
    """Turns against none: how they grow with the load, what they save, what a lone call waits."""
    plan = turns.TurnsPlan(rounds=rounds, open_s=open_s)
    with measuring(results) as (work, on_stage):
        points = turns.run(plan, work, results / "cache", on_stage)
    show(results, "turns", turns.as_data(plan, points), turns.figures(points), as_json=as_json)


def _group_commit(
    rounds: Rounds = 3,
    rows: Annotated[int, typer.Option(min=1_000, help="Rows of each measurement.")] = 4_000,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
) -> None:
    """Group commit against one commit a certificate, synchronous FULL and NORMAL."""
    with measuring(results) as (work, on_stage):
        groups = group_commit.run(rounds, rows, work, on_stage)
    data, figures = group_commit.as_data(groups), group_commit.figures(groups)
    show(results, "group-commit", data, figures, as_json=as_json)


def _workers(
    rounds: Rounds = 5,
    calls: Calls = 1_000,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
) -> None:
    """Two workers against one: CPU a certificate, throughput, commit latency."""
    with measuring(results) as (work, on_stage):
        found = workers.run(rounds, calls, work, results / "cache", on_stage)
    figures = Group(workers.figures(found), workers.commit_figures(found))
    show(results, "workers", workers.as_data(found), figures, as_json=as_json)


def _refusals(
    rounds: Rounds = 3,
    calls: Calls = 1_200,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
) -> None:
    """What a refusal costs, kind by kind, warm and with a new connection each."""
    with measuring(results) as (work, on_stage):
        samples = refusals.run(rounds, calls, work, results / "cache", on_stage)
    data, figures = refusals.as_data(samples), refusals.figures(samples)
    show(results, "refusals", data, figures, as_json=as_json)


def _variants(
    variant: Annotated[
        list[str], typer.Option(help="NAME=VALUE of the environment, several parted by blanks.")
    ],
    rounds: Rounds = 7,
    calls: Calls = 800,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
) -> None:
    """The server under other variables of the environment, beside the server as it is."""
    try:
        tried = {text: variants.parse_variant(text) for text in variant}
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    plan = variants.VariantsPlan(rounds=rounds, calls=calls)
    with measuring(results) as (work, on_stage):
        stretches = variants.run(plan, tried, work, results / "cache", on_stage)
    data, figures = variants.as_data(plan, tried, stretches), variants.figures(tried, stretches)
    show(results, "variants", data, figures, as_json=as_json)


def _herd_memory(
    connections: Annotated[int, typer.Option(min=100, help="Size of the herd.")] = 10_000,
    allocator: Annotated[
        list[str] | None, typer.Option(help="One of those tried; all if none is named.")
    ] = None,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
) -> None:
    """Memory of a worker with 10,000 idle connections and after them, by allocator."""
    names = allocator or list(herd_memory.ALLOCATORS)
    with measuring(results) as (work, on_stage):
        found, stretches = herd_memory.run(connections, names, work, results / "cache", on_stage)
    data, figures = herd_memory.as_data(found, stretches), herd_memory.figures(found)
    show(results, "herd-memory", data, figures, as_json=as_json)
