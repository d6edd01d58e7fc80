"""A run as one page that needs nothing else: no script, no file, no network.

Everything on it stands in the JSON beside it; a test compares the two.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from benchmarks.reporting.charts import Run, draw_stretch

_STYLE: Final = """
body { font: 14px/1.45 system-ui, sans-serif; color: #222; max-width: 1220px; margin: 2em auto; }
h1 { font-size: 22px; margin-bottom: 0; } h2 { font-size: 17px; margin: 2em 0 .3em; }
table { border-collapse: collapse; margin: .6em 0; } td, th { padding: .2em .9em .2em 0; }
th { text-align: left; font-weight: 600; border-bottom: 1px solid #bbb; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.bad { color: #b3261e; font-weight: 600; } .good { color: #1d6b35; }
p.note { color: #666; margin: .2em 0; } svg { width: 100%; height: auto; }
pre { background: #f5f5f5; padding: .8em; overflow: auto; font-size: 12px; }
"""

Cell = str | float | int


class Html(str):
    """Text of a cell that is markup already."""

    __slots__ = ()


def render(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the page of a run, or of several side by side.

    Args:
        runs: Results with the names that tell them apart; the name of a lone run is not shown.
    """
    title = runs[0][1]["title"]
    alone = len(runs) == 1
    names = "" if alone else ": " + " and ".join(label for label, _ in runs)
    parts = [f"<h1>{escape(title + names)}</h1>", *map(_origin, runs)]
    parts += [_figures(runs), _checks(runs)]
    for name in _stretch_names(runs):
        shown = [
            ("" if alone else label, stretch)
            for label, data in runs
            for stretch in data["stretches"]
            if stretch["name"] == name
        ]
        parts += [f"<h2>{escape(name)}</h2>", draw_stretch(shown), _numbers(shown)]
    parts += [_settings(label, data) for label, data in runs]
    head = f'<meta charset="utf-8"><title>{escape(title + names)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _origin(run: tuple[str, Mapping[str, Any]]) -> str:
    label, data = run
    machine, server, driver = data["machine"], data["server"], data["driver"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    workers = f"{server.get('workers', '?')} workers on CPUs {server.get('cores', '?')}"
    text = (
        f"{label}: {data.get('when', '')}, commit {data.get('commit', 'unknown')}. "
        f"Server {server.get('name', '')}, {workers}; {driver['processes']} drivers on CPUs "
        f"{driver['cores']}, {driver['csr']} CSRs, {driver['ca']} CA. {machine['cpu']}, "
        f"{machine['cores']} CPUs, Linux {machine['kernel']}, Python {machine['python']} "
        f"(pace {machine.get('python_pace_us', 0):.0f} us), {versions}; "
        f"load average {machine['load_average'][0]:.1f} at the end."
    )
    return f'<p class="note">{escape(text)}</p>'


def _figures(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    names = list(dict.fromkeys(f["name"] for _, data in runs for f in data["figures"]))
    rows = []
    for name in names:
        found = [_figure(data, name) for _, data in runs]
        goal = next((figure["goal"] for figure in found if figure), "")
        rows.append([name, *map(_value, found), goal])
    return _table(["figure", *(label for label, _ in runs), "goal"], rows)


def _figure(data: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((figure for figure in data["figures"] if figure["name"] == name), None)


def _value(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    text = f"{figure['value']:.4g} {figure['unit']}"
    if figure["met"] is None:
        return text
    verdict = _marked("good", "met") if figure["met"] else _marked("bad", "missed")
    return Html(f"{escape(text)} {verdict}")


def _marked(kind: str, text: str) -> Html:
    return Html(f'<span class="{kind}">{escape(text)}</span>')


def _checks(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    rows: list[list[Cell]] = []
    for label, data in runs:
        failed = [check for check in data["checks"] if not check["holds"]]
        rows += [[label, _marked("bad", check["name"]), check["detail"]] for check in failed]
        held = len(data["checks"]) - len(failed)
        rows.append([label, f"{held} of {len(data['checks'])} checks hold", _inventory(data)])
    return _table(["", "check", "seen"], rows)


def _inventory(data: Mapping[str, Any]) -> str:
    found = [check["detail"] for check in data["checks"] if check["name"].startswith("inventory")]
    return f"inventory: {found[-1]}" if found else ""


def _stretch_names(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return list(dict.fromkeys(s["name"] for _, data in runs for s in data["stretches"]))


def _numbers(runs: Sequence[Run]) -> str:
    """Return the figures of every load of a stretch."""
    columns = ["load", "pace", "certificates", "per s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"]
    columns += ["longest wait s", "driver late p99 ms", "answers", "refusals' texts"]
    rows: list[list[Cell]] = []
    for label, stretch in runs:
        rows += [_load_row(label, load) for load in stretch["loads"]]
    return _table(columns, rows) + _processes(runs) + _counters(runs)


def _load_row(label: str, load: Mapping[str, Any]) -> list[Cell]:
    latency = load["latency_ms"]
    seconds = load["seconds"] or 1.0
    return [
        f"{label} {load['name']}".strip(),
        f"{load['pace']['kind']}, {load['way']['kind']}",
        load["certificates"],
        load["certificates"] / seconds,
        *(latency[at] for at in ("50", "99", "99.9", "100")),
        load["longest_wait_s"],
        load["late_ms"]["99"],
        ", ".join(f"{name} {count}" for name, count in load["attempts"].items()),
        "; ".join(f"{text} ({count})" for text, count in load["messages"].items()),
    ]


def _processes(runs: Sequence[Run]) -> str:
    columns = ["process", "CPU s", "us a certificate", "user", "system", "waited for a CPU s"]
    rows: list[list[Cell]] = []
    for label, stretch in runs:
        for process in stretch["server"]["by_process"]:
            keys = ("cpu_s", "cpu_us", "user_us", "system_us", "waited_s", "most_mib")
            name = f"{label} {process['process']}".strip()
            rows.append([name, *(process[key] for key in keys)])
        rows.append([f"{label} drivers".strip(), "", stretch["driver_cpu_us"], "", "", "", ""])
        rows.append([f"{label} others on the machine".strip(), _others(stretch)])
    return _table([*columns, "most MiB"], rows)


def _others(stretch: Mapping[str, Any]) -> str:
    machine = stretch["machine"]
    return f"{machine['others_cpus']:.2f} CPUs, {machine['stolen_cpus']:.2f} taken by the host"


def _counters(runs: Sequence[Run]) -> str:
    """Return what the server's own counters have counted meanwhile, refusals by their reason."""
    names = sorted({name for _, stretch in runs for name in stretch["metrics"]["counters"]})
    rows: list[list[Cell]] = [
        [name, *(stretch["metrics"]["counters"].get(name, 0) for _, stretch in runs)]
        for name in names
    ]
    table = _table(["counter", *(label or "counted" for label, _ in runs)], rows)
    return f"<details><summary>The server's own counters</summary>{table}</details>"


def _settings(label: str, data: Mapping[str, Any]) -> str:
    text = json.dumps(data["server"].get("settings", {}), indent=1)
    summary = escape(f"Settings of the server, {label}")
    return f"<details><summary>{summary}</summary><pre>{escape(text)}</pre></details>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return f"<table><tr>{head}</tr>\n{lines}</table>"


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f"<td>{value if isinstance(value, Html) else escape(value)}</td>"
    text = f"{value:d}" if isinstance(value, int) else f"{value:.4g}"
    return f'<td class="n">{text}</td>'
