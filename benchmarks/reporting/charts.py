"""Pictures of stretches, as SVG that stands in a page: one run, or several side by side.

Draws what the results say and computes nothing new but sums; matplotlib does the drawing.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Run = tuple[str, Mapping[str, Any]]
"""A stretch's results under the name that the picture gives them."""

_SIZE: Final = (12.5, 9.6)
_COLOURS: Final = ("#1f5fa8", "#c8501e", "#2d7d46", "#7a4ba0")
_REFUSED: Final = "#b0b0b0"
_MARGINS: Final = {
    (3, 3): {
        "left": 0.06,
        "right": 0.99,
        "top": 0.97,
        "bottom": 0.06,
        "wspace": 0.24,
        "hspace": 0.42,
    },
    (1, 3): {
        "left": 0.05,
        "right": 0.99,
        "top": 0.9,
        "bottom": 0.16,
        "wspace": 0.22,
        "hspace": 0.0,
    },
}
"""By the grid; a layout that is computed takes most of the time of a page."""

_BIN_S: Final = 1.0
_BATCH: Final = "meshsigner_turn_members"
_DELAYS: Final = re.compile(r"(queue|wait).*seconds$")
_WHOLE: Final = "meshsigner_call_duration_seconds"
_PERCENTILE_TICKS: Final = (50.0, 90.0, 99.0, 99.9, 99.99)

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # text stays text: small, and found by a page's search
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def draw_stretch(runs: Sequence[Run]) -> str:
    """Return all pictures of one stretch as one SVG element, of several runs side by side."""
    panels = (
        *(_throughput, _latency_over_time, _percentiles),
        *(_cpu, _batches, _delays),
        *(_refusals, _memory, _queued),
    )
    return _draw(runs, panels, _SIZE, (3, 3))


def draw_summary(runs: Sequence[Run]) -> str:
    """Return the small picture of a run: throughput over time, latency percentiles, CPU."""
    return _draw(runs, (_throughput, _percentiles, _cpu), (11.5, 3.2), (1, 3))


def _draw(
    runs: Sequence[Run],
    panels: Sequence[Callable[[Axes, Sequence[Run]], None]],
    size: tuple[float, float],
    grid: tuple[int, int],
) -> str:
    salt = "/".join(f"{label}-{stretch['name']}" for label, stretch in runs)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=size)
        figure.subplots_adjust(**_MARGINS[grid])
        for number, panel in enumerate(panels, 1):
            panel(figure.add_subplot(*grid, number), runs)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _throughput(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw certificates and refusals per second over time."""
    for number, (label, stretch) in enumerate(runs):
        at, granted = _per_second(stretch, "granted")
        axes.plot(at, granted, color=_colour(number), label=_named(label, "certificates"))
        _, refused = _per_second(stretch, "refused")
        if any(refused):
            name = _named(label, "refusals")
            axes.plot(at, refused, color=_colour(number), linestyle=":", label=name)
    _mark_events(axes, runs)
    _finish(axes, "answers per second", "s", "")
    axes.set_ylim(bottom=0)


def _latency_over_time(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw median and 99th percentile of each quarter second, by the planned time."""
    for number, (label, stretch) in enumerate(runs):
        slots = [slot for slot in stretch["loads"][0]["timeline"] if slot["p99_ms"]]
        at = [slot["at_s"] for slot in slots]
        for key, style in (("p50_ms", "-"), ("p99_ms", ":")):
            values = [slot[key] for slot in slots]
            name = _named(label, key.removesuffix("_ms"))
            axes.plot(at, values, style, color=_colour(number), label=name)
    _log_if_drawn(axes)
    _mark_events(axes, runs)
    _finish(axes, "latency over time", "s, by the planned sending", "ms")


def _percentiles(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw latency by percentile, on an axis where each nine has the same width."""
    for number, (label, stretch) in enumerate(runs):
        for load in stretch["loads"]:
            table = {float(at): ms for at, ms in load["latency_ms"].items()}
            points = [(_nines(at), ms) for at, ms in sorted(table.items()) if at < 100 and ms]
            if points:
                style = "-" if load is stretch["loads"][0] else "--"
                name = _named(label, load["name"])
                at, ms = zip(*points, strict=True)
                axes.plot(at, ms, style, marker=".", color=_colour(number), label=name)
    axes.set_xscale("log")
    _log_if_drawn(axes)
    axes.set_xticks([_nines(at) for at in _PERCENTILE_TICKS])
    axes.set_xticklabels([f"{at:g}" for at in _PERCENTILE_TICKS])
    axes.minorticks_off()
    _finish(axes, "latency percentiles", "%: one in 2, 10, 100, ...", "ms")


def _cpu(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw CPU per certificate, one bar a run, split by process."""
    for row, (label, stretch) in enumerate(runs):
        left = 0.0
        used = [p for p in stretch["server"]["by_process"] if p["cpu_us"] >= 0.5]
        bars = [(p["process"], p["cpu_us"]) for p in used]
        for number, (name, cpu_us) in enumerate(bars):
            text = _named(label, f"{name} {cpu_us:.0f}")
            axes.barh(row, cpu_us, left=left, color=_colour(number), label=text, height=0.5)
            left += cpu_us
        axes.barh(row - 0.35, stretch["driver_cpu_us"], color=_REFUSED, height=0.12)
    axes.barh(0, 0, color=_REFUSED, label="drivers")
    axes.set_yticks(range(len(runs)), [label for label, _ in runs])
    axes.set_ylim(-0.8, len(runs) - 0.2 + 0.6)
    _finish(axes, "server CPU per certificate", "us", "")


def _batches(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw how many members the turns had."""
    _histograms(axes, [(label, _metric(stretch, _BATCH)) for label, stretch in runs], 1.0)
    _finish(axes, "batch sizes", "members of a turn, at most", "% of turns")


def _delays(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw what the server says of waiting: its queue's delay, else the whole call."""
    found = []
    for label, stretch in runs:
        names = [name for name in stretch["metrics"]["histograms"] if _DELAYS.search(name)]
        name = names[0] if names else _WHOLE
        found.append((_named(label, name), _metric(stretch, name)))
    _histograms(axes, found, 1e3)
    _finish(axes, "delay in the server, by its own metrics", "ms, at most", "% of calls")


def _histograms(
    axes: Axes, found: Sequence[tuple[str, Mapping[str, Any] | None]], scale: float
) -> None:
    for number, (label, histogram) in enumerate(found):
        if histogram is None or not histogram["count"]:
            continue
        bars = _shares(histogram, scale)
        width = 0.8 / len(found)
        at = [place + number * width for place in range(len(bars))]
        axes.bar(at, [share for _, share in bars], width, color=_colour(number), label=label)
        axes.set_xticks(range(len(bars)), [bound for bound, _ in bars], rotation=60, fontsize=7)


def _refusals(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw answers that were no certificates, by status."""
    names: list[str] = []
    for number, (label, stretch) in enumerate(runs):
        counted: dict[str, int] = {}
        for load in stretch["loads"]:
            for status, count in load["attempts"].items():
                counted[status] = counted.get(status, 0) + count
        refused = {status: count for status, count in counted.items() if status != "OK"}
        names += [status for status in refused if status not in names]
        at = [names.index(status) + 0.25 * number for status in refused]
        axes.barh(at, list(refused.values()), 0.22, color=_colour(number), label=label)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    _finish(axes, "refusals by kind" if names else "refusals by kind: none", "answers", "")


def _memory(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw the resident memory of all server processes."""
    for number, (label, stretch) in enumerate(runs):
        points = stretch["server"]["memory_mib"]
        at, mib = zip(*points, strict=True) if points else ((), ())
        axes.plot(at, mib, color=_colour(number), label=label)
    axes.set_ylim(bottom=0)
    _finish(axes, "memory of the server, all processes", "s", "MiB")


def _queued(axes: Axes, runs: Sequence[Run]) -> None:
    """Draw the gauges of waiting work."""
    for number, (label, stretch) in enumerate(runs):
        for name, style in (("orders_queued", "-"), ("calls_in_flight", ":")):
            points = stretch["metrics"]["gauges"].get(f"meshsigner_{name}", [])
            if points:
                at, value = zip(*points, strict=True)
                axes.plot(at, value, style, color=_colour(number), label=_named(label, name))
    axes.set_ylim(bottom=0)
    _finish(axes, "waiting in the server", "s", "")


def _per_second(stretch: Mapping[str, Any], key: str) -> tuple[list[float], list[float]]:
    """Return times and rates of all loads, in bins of a second."""
    bins: dict[int, float] = {}
    for load in stretch["loads"]:
        for slot in load["timeline"]:
            number = int(slot["at_s"] // _BIN_S)
            bins[number] = bins.get(number, 0.0) + slot[key] / _BIN_S
    order = sorted(bins)
    return [number * _BIN_S for number in order], [bins[number] for number in order]


def _shares(histogram: Mapping[str, Any], scale: float) -> list[tuple[str, float]]:
    """Return upper bounds with the share of values that lie under them and no lower one."""
    bounds = sorted(histogram["buckets"].items(), key=lambda item: float(item[0]))
    found, before = [], 0.0
    for bound, cumulated in bounds:
        share = 100 * (cumulated - before) / histogram["count"]
        before = cumulated
        name = "more" if float(bound) == float("inf") else f"{float(bound) * scale:g}"
        found.append((name, share))
    used = [place for place, (_, share) in enumerate(found) if share >= 0.05]
    return found[used[0] : used[-1] + 1] if used else []


def _metric(stretch: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = stretch["metrics"]["histograms"].get(name)
    return found


def _mark_events(axes: Axes, runs: Sequence[Run]) -> None:
    for _, stretch in runs:
        for event in stretch["events"]:
            axes.axvline(event["at_s"], color="#888888", linewidth=0.8)
            place = (event["at_s"], 0.99)
            axes.annotate(
                event["name"],
                place,
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                fontsize=6,
            )


def _nines(percentile: float) -> float:
    """Return one in how many exceeds it."""
    return 100 / (100 - percentile)


def _named(label: str, what: str) -> str:
    return f"{label}: {what}" if label else what


def _log_if_drawn(axes: Axes) -> None:
    if axes.lines:
        axes.set_yscale("log")


def _finish(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
