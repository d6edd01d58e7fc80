"""A run's figures for the terminal."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load.report import table


def show(console: Console, data: dict[str, Any], file: Path) -> None:
    """Print what was found, and where all of it is."""
    console.print(_stretches(data))
    console.print(_figures(data))
    for check in data["checks"]:
        if not check["holds"]:
            console.print(f"[red]{check['name']}: {check['detail']}[/red]")
    console.print("others: CPUs that other processes used meanwhile; figures grow with it")
    console.print(f"everything measured: {file}")


def _stretches(data: dict[str, Any]) -> Table:
    columns = [
        "stretch",
        "certificates",
        "per s",
        "CPU us",
        "p50 ms",
        "p99 ms",
        "others",
        "answers",
    ]
    rows = [_row(stretch) for stretch in data["stretches"]]
    return table(data["title"], columns, rows)


def _row(stretch: dict[str, Any]) -> list[str]:
    first = stretch["loads"][0]
    latency = first["latency_ms"]
    answers = ", ".join(f"{name} {number}" for name, number in first["attempts"].items())
    return [
        stretch["name"],
        str(stretch["certificates"]),
        f"{stretch['per_s']:.0f}",
        f"{stretch['server']['cpu_us']:.0f}",
        f"{latency['50']:.2f}",
        f"{latency['99']:.2f}",
        f"{stretch['machine']['others_cpus']:.1f}",
        answers,
    ]


def _figures(data: dict[str, Any]) -> Table:
    rows = [
        [figure["name"], f"{figure['value']:.4g} {figure['unit']}", _goal(figure)]
        for figure in data["figures"]
    ]
    return table("figures", ["figure", "measured", "goal"], rows)


def _goal(figure: dict[str, Any]) -> str:
    if figure["met"] is None:
        return ""
    return f"{figure['goal']}: {'met' if figure['met'] else 'missed'}"
