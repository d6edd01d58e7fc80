"""What the measuring commands have in common: options, files, and how they end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from rich.console import Console, RenderableType

from benchmarks.load.report import save
from benchmarks.progress import Display
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.servers import ServerFailedError

Rounds = Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")]
Calls = Annotated[int, typer.Option(min=16, help="Calls of a case in a round.")]
Results = Annotated[Path, typer.Option(help="Where results go.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print the table as markdown.")]

RESULTS: Final = Path("bench-results")


@contextmanager
def measuring(results: Path) -> Iterator[tuple[Path, OnStage]]:
    """Give a directory for the servers and a progress display; a server's failure ends with 2."""
    console = Console(stderr=True)
    results.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix="run-", dir=results) as work, Display(console) as display:
            yield Path(work).resolve(), display.stage
    except ServerFailedError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from error


def show(
    results: Path, name: str, data: dict[str, Any], figures: RenderableType, *, as_json: bool
) -> None:
    """Save what was measured and print it; end with 1 if answers were wrong."""
    file = save(results, name, data)
    if as_json:
        json.dump(data, sys.stdout, indent=2)
        print()
    else:
        console = Console(width=None if sys.stdout.isatty() else 180)
        console.print(figures)
        for fault in data["faults"][:10]:
            console.print(f"[red]{fault}[/red]")
        console.print(f"everything measured: {file}")
    if data["faults"]:
        raise typer.Exit(1)
