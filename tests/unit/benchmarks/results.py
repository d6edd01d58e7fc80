"""Results of runs as the tests of reports need them: small, with every kind of thing in them."""

from typing import Any


def load(name: str = "pods", **changes: Any) -> dict[str, Any]:
    """Return a load's books."""
    slots = [
        {"at_s": 0.25 * n, "planned": 5, "granted": 5, "refused": n % 2, "p50_ms": 2, "p99_ms": 9}
        for n in range(8)
    ]
    return {
        "name": name,
        "pace": {"kind": "Closed", "in_flight": 4},
        "way": {"kind": "Fresh"},
        "processes": 1,
        "certificates": 40,
        "ended": 44,
        "unexpected": 0,
        "statuses": {"OK": 40, "UNAVAILABLE": 4},
        "attempts": {"OK": 40, "UNAVAILABLE": 4},
        "attempts_each": {"1": 44},
        "messages": {"try <again>": 4},
        "faulty": 0,
        "faults": [],
        "latency_ms": {"50": 2.0, "99": 9.125, "99.9": 9.5, "100": 9.75},
        "longest_wait_s": 0.0123,
        "late_ms": {"50": 0.0, "99": 0.1},
        "driver_cpu_s": 0.02,
        "lost_connections": 0,
        "ran_dry": False,
        "seconds": 2.0,
        "timeline": slots,
        **changes,
    }


def histogram(**buckets: float) -> dict[str, Any]:
    """Return a histogram; names of buckets are their bounds, `inf` the last."""
    bounds = {bound.lstrip("_").replace("inf", "+Inf"): n for bound, n in buckets.items()}
    return {"buckets": bounds, "sum": 100.0, "count": max(bounds.values())}


def stretch(name: str = "closed loop", **changes: Any) -> dict[str, Any]:
    """Return a stretch."""
    process = {
        "process": "worker 0",
        "cpu_s": 0.03,
        "cpu_us": 751.5,
        "user_us": 600.0,
        "system_us": 151.0,
        "waited_s": 0.001,
        "most_mib": 120.0,
    }
    return {
        "name": name,
        "certificates": 40,
        "per_s": 20.0,
        "server": {
            "cpu_s": 0.03,
            "cpu_us": 751.5,
            "by_process": [process],
            "memory_mib": [(0.0, 100.0), (1.0, 120.0)],
        },
        "machine": {"seconds": 2.5, "others_cpus": 0.25, "stolen_cpus": 0.0},
        "driver_cpu_us": 500.0,
        "events": [{"name": "CA swapped", "at_s": 1.0, "done_s": 1.1}],
        "loads": [load()],
        "metrics": {
            "counters": {'meshsigner_shed_total{what="queue_wait"}': 4.0},
            "histograms": {
                "meshsigner_turn_members": histogram(_1=30, _2=40, _inf=40),
                "meshsigner_call_duration_seconds": histogram(_0=0, _1=40, _inf=40),
            },
            "gauges": {"meshsigner_orders_queued": [(0.5, 3.0), (1.0, 4.0)]},
        },
        **changes,
    }


def run(server: str = "meshsigner", cpu_us: float = 751.5) -> dict[str, Any]:
    """Return a run of one scenario."""
    figures = [
        {"name": "CPU", "value": cpu_us, "unit": "us", "goal": "at most 800 us", "met": True},
        {"name": "p99", "value": 70.0, "unit": "ms", "goal": "at most 50 ms", "met": False},
    ]
    checks = [
        {"name": "inventory: rows", "holds": True, "detail": "40 received, 40 recorded"},
        {"name": "nobody is <harmed>", "holds": False, "detail": "one was"},
    ]
    return {
        "form": 1,
        "scenario": "churn",
        "title": "B: churn",
        "when": "2026-11-25 03:00 UTC",
        "commit": "abc1234",
        "server": {
            "name": server,
            "workers": 2,
            "cores": [0, 1],
            "settings": {"trust_domain": "cluster.local"},
        },
        "driver": {"processes": 1, "cores": [1], "csr": "rsa2048", "ca": "p256"},
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "kernel": "6.1",
            "python": "3.11",
            "python_pace_us": 1234.0,
            "driver_openssl": "OpenSSL",
            "packages": {"grpcio": "1.85.1"},
            "load_average": [0.5, 0.5, 0.5],
        },
        "figures": figures,
        "checks": checks,
        "stretches": [stretch("warm-up"), stretch()],
    }


def lone_run(server: str = "meshsigner", cpu_us: float = 751.5) -> dict[str, Any]:
    """Return a run of one stretch, which is quicker to draw."""
    return run(server, cpu_us) | {"stretches": [stretch()]}
