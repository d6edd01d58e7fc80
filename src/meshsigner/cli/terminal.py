"""How the commands talk to people: results on standard output, all else on standard error.

Lines are never broken, so that paths and commands can be copied; colours go
away by themselves when the output is no terminal.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from meshsigner.cli.exits import Exit

_out = Console(soft_wrap=True, highlight=False)
_err = Console(soft_wrap=True, highlight=False, stderr=True)


def say(text: str = "") -> None:
    """Write a line of a result."""
    _out.print(escape(text))


def say_heading(text: str) -> None:
    """Write a heading of a result."""
    _out.print(f"[bold]{escape(text)}[/bold]")


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Write names and values under each other."""
    rows = list(fields)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        _out.print(f"  [cyan]{escape(name):<{width}}[/cyan]  {escape(value)}")


def say_json(value: Mapping[str, object] | Sequence[object]) -> None:
    """Write a result for programs: one JSON document."""
    typer.echo(json.dumps(value, indent=1))


def note(text: str) -> None:
    """Write what is going on."""
    _err.print(f"[dim]{escape(text)}[/dim]")


def warn(text: str) -> None:
    """Write what somebody should know."""
    _err.print(f"[yellow]{escape(text)}[/yellow]")


def fail(code: Exit, *lines: str) -> NoReturn:
    """End the command: say why, then exit.

    Args:
        code: How it ends.
        lines: What went wrong; the first is the summary.

    Raises:
        typer.Exit: Always.
    """
    first, *more = lines
    _err.print(f"[bold red]error:[/bold red] {escape(first)}")
    for line in more:
        _err.print(f"  {escape(line)}")
    raise typer.Exit(code)
