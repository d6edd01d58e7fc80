"""Whether a report shows what the results say, needs nothing else, and puts runs side by side."""

import io
import re
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.reporting.compare import compare_runs
from benchmarks.reporting.files import load_run, save_run
from benchmarks.reporting.page import render
from benchmarks.reporting.picture import draw_picture
from benchmarks.reporting.terminal import show
from tests.unit.benchmarks.results import lone_run, run


@pytest.fixture(scope="module")
def page() -> str:
    """Return the page of one run."""
    return render([("meshsigner", run())])


def test_page_says_what_the_results_say(page: str) -> None:
    """Figures, verdicts, checks, latencies, CPU, refusals, settings, machine: all are there."""
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    for said in (
        *("B: churn", "abc1234", "2 workers on CPUs [0, 1]", "A CPU", "grpcio 1.85.1"),
        "Python 3.11 (pace 1234 us)",
        *("751.5 us", "at most 800 us", "met", "70 ms", "missed", "40 received, 40 recorded"),
        *("closed loop", "9.125", "0.0123", "OK 40, UNAVAILABLE 4", "try <again> (4)"),
        *("worker 0", "600", "151", "trust_domain", "nobody is <harmed>", "one was"),
        *("batch sizes", "latency percentiles", "refusals by kind", "CA swapped"),
        "0.25 CPUs, 0.00 taken by the host",
        'meshsigner_shed_total{what="queue_wait"}',
    ):
        assert said in text


def test_page_needs_nothing_else(page: str) -> None:
    """No script runs, and nothing is fetched: no links, no sources but of the page itself."""
    assert "<script" not in page
    references = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert references
    assert all(reference.startswith("#") for reference in references)
    assert page.count("<svg") == 2


def test_pictures_of_a_page_do_not_share_names(page: str) -> None:
    """Two pictures of one page never define the same id: one would clip the other."""
    defined = re.findall(r'<clipPath id="([^"]+)"', page)
    assert defined
    assert len(set(defined)) == len(defined)


def test_texts_of_a_server_are_no_markup() -> None:
    """What a server says stays text on the page."""
    data = lone_run()
    data["stretches"][0]["loads"][0]["messages"] = {'<span onclick="x">': 1}
    assert "<span onclick" not in render([("meshsigner", data)])


def test_saved_run_is_read_back(tmp_path: Path) -> None:
    """The JSON holds the results, with time and commit; the page lies beside it."""
    file = save_run(tmp_path, lone_run())
    assert load_run(file)["figures"] == run()["figures"]
    assert "B: churn" in file.with_suffix(".html").read_text()


def test_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A JSON file without stretches is no run, and the error says so."""
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="not a benchmark's result"):
        load_run(tmp_path / "x.json")


def test_two_servers_stand_side_by_side() -> None:
    """A comparison names both, shows both values of a figure, and their ratio."""
    page, figures = compare_runs([("a", lone_run()), ("b", lone_run("istio-ca", cpu_us=1503.0))])
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(figures)
    text = console.export_text()
    assert re.search(r"CPU\s+│\s+751\.5\s+│\s+1503\s+│\s+2\.00", text)
    assert "meshsigner and istio-ca" in page
    assert "istio-ca worker 0" in page


def test_runs_of_one_server_are_told_apart_by_their_files() -> None:
    """Two runs of the same server go by the names of their files."""
    page, _ = compare_runs([("monday", lone_run()), ("tuesday", lone_run())])
    assert "monday and tuesday" in page


def test_picture_is_small() -> None:
    """The README's picture is one SVG of a stretch, small enough for a tree."""
    picture = draw_picture(run(), "")
    assert picture.startswith("<svg")
    assert len(picture) < 60_000
    with pytest.raises(ValueError, match="there are: warm-up, closed loop"):
        draw_picture(run(), "elsewhere")


def test_terminal_shows_figures_and_what_failed(tmp_path: Path) -> None:
    """The summary has every stretch, every figure with its verdict, and each failed check."""
    console = Console(width=140, record=True, file=io.StringIO())
    show(console, run(), tmp_path / "run.json")
    text = console.export_text()
    for said in ("closed loop", "752", "at most 50 ms: missed", "nobody is <harmed>: one was"):
        assert said in text
