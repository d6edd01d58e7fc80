"""What the books say of costs, metrics and recovery."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from benchmarks.load.report import python_pace_us
from benchmarks.scenarios.costs import Costs
from benchmarks.scenarios.overload import back_to_normal_s
from benchmarks.scenarios.scrape import Scrape

BURN = "import time\nwhile time.process_time() < 0.2: pass\nprint('burnt', flush=True)\ninput()"
METRICS = """# TYPE meshsigner_calls_total counter
meshsigner_calls_total{{reason="ok"}} {calls}
# TYPE meshsigner_turn_members histogram
meshsigner_turn_members_bucket{{le="1.0"}} {ones}
meshsigner_turn_members_bucket{{le="+Inf"}} {calls}
meshsigner_turn_members_count {calls}
meshsigner_turn_members_sum {calls}
# TYPE meshsigner_orders_queued gauge
meshsigner_orders_queued 7
# TYPE process_threads gauge
process_threads 3
"""


class Pages(BaseHTTPRequestHandler):
    """Shows metrics that grow with each look."""

    looks = 0

    def do_GET(self) -> None:
        """Answer."""
        Pages.looks += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(METRICS.format(calls=10 * Pages.looks, ones=4 * Pages.looks).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Return where metrics are."""
    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()
        thread.join()


def test_metrics_are_what_changed_meanwhile(url: str) -> None:
    """Counters and histograms are differences, gauges a row of values; others' are left out."""
    scrape = Scrape(lambda: url)
    scrape.look()
    data = scrape.as_data()
    assert data["counters"] == {'meshsigner_calls_total{reason="ok"}': 20}
    members = data["histograms"]["meshsigner_turn_members"]
    assert members == {"buckets": {"1.0": 8, "+Inf": 20}, "sum": 20, "count": 20}
    assert [value for _, value in data["gauges"]["meshsigner_orders_queued"]] == [7]
    assert set(data["gauges"]) == {"meshsigner_orders_queued"}


def test_server_that_is_away_has_no_metrics() -> None:
    """Nobody there, or no address: empty figures and no error."""
    for url in ("", "http://127.0.0.1:9/metrics"):
        assert Scrape(lambda url=url: url).as_data()["histograms"] == {}  # type: ignore[misc]


def test_process_that_has_ended_still_counts() -> None:
    """CPU of a process is counted up to when it was last seen, though it died meanwhile."""
    command = [sys.executable, "-c", BURN]
    roots: list[int] = []
    costs = Costs(lambda: roots)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        roots.append(process.pid)
        assert process.stdout is not None
        process.stdout.readline()
        costs.look()
        process.communicate(b"\n")
    costs.look()
    data = costs.as_data(certificates=100)
    (only,) = data["by_process"]
    assert only["process"] == "first process"
    assert only["cpu_s"] >= 0.2
    assert only["cpu_us"] == pytest.approx(only["cpu_s"] * 1e4)
    assert data["memory_mib"][1][1] > 1
    machine = costs.machine_as_data(known_s=0.0)
    assert machine["others_cpus"] * machine["seconds"] >= 0.15


class Timeline:
    """Books that say what is asked."""

    def __init__(self, slots: list[tuple[int, float]]) -> None:
        self._slots = slots

    def timeline(self) -> list[dict[str, float]]:
        """Return quarter seconds of refusals and medians."""
        return [
            {"at_s": number / 4, "refused": refused, "p50_ms": p50_ms}
            for number, (refused, p50_ms) in enumerate(self._slots)
        ]


@pytest.mark.parametrize(
    ("slots", "expected_s"),
    [
        ([(9, 900)] * 4 + [(0, 10)] * 4, 0.0),
        ([(9, 900)] * 6 + [(0, 10)] * 4, 0.5),
        ([(9, 900)] * 4 + [(0, 500), (0, 10), (1, 10), (0, 10), (0, 10), (0, 10), (0, 10)], 0.75),
        ([(9, 900)] * 12, 2.0),
    ],
)
def test_normal_is_a_second_without_refusals_and_waits(
    slots: list[tuple[int, float]], expected_s: float
) -> None:
    """Recovery ends where a whole second follows in which nobody is refused or waits long."""
    assert back_to_normal_s(Timeline(slots), ends_s=1.0) == expected_s  # type: ignore[arg-type]


def test_pace_of_this_python_is_told() -> None:
    """It is CPU time that was really used: never more than passed while five tries were made."""
    begun_ns = time.perf_counter_ns()
    pace_us = python_pace_us()
    assert 0 < 5 * pace_us <= (time.perf_counter_ns() - begun_ns) / 1e3
