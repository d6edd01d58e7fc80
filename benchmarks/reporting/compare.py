"""Runs side by side: one server at two times, or two servers under the same load."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.load.report import table
from benchmarks.reporting.page import render


def compare_runs(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[str, Table]:
    """Return the page, and the figures for the terminal.

    Args:
        runs: Results with the names of their files.
    """
    named = list(zip(names(runs), (data for _, data in runs), strict=True))
    return render(named), _figures(named)


def names(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return what tells the runs apart: the servers' names, else those of the files."""
    servers = [data["server"].get("name", "") for _, data in runs]
    if len(set(servers)) == len(runs):
        return servers
    return [label for label, _ in runs]


def _figures(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    rows = []
    for name in dict.fromkeys(figure["name"] for _, data in runs for figure in data["figures"]):
        values = [_value(data, name) for _, data in runs]
        shown = ["" if value is None else f"{value:.4g}" for value in values]
        rows.append([name, *shown, _ratio(values)])
    return table("side by side", ["figure", *(label for label, _ in runs), "ratio"], rows)


def _value(data: Mapping[str, Any], name: str) -> float | None:
    values: list[float] = [f["value"] for f in data["figures"] if f["name"] == name]
    return values[0] if values else None


def _ratio(values: Sequence[float | None]) -> str:
    """Return the last value by the first one."""
    first, last = values[0], values[-1]
    return f"{last / first:.2f}" if first and last is not None else ""
