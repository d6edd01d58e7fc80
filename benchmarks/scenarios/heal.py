"""Partition heal: the server was away, everybody has been asking, and now it is back.

The server is stopped; agents begin to ask, are refused their connections, and retry as
istio-agent does; then the server is started on the same port and state.
"""

from contextlib import ExitStack
from typing import Final

from benchmarks.load.loads import Population
from benchmarks.scenarios.lab import Lab
from benchmarks.scenarios.scenario import Scenario
from benchmarks.scenarios.stretch import Event

_AGENTS: Final = 3_000
_AWAY_S: Final = 5.0
_SPREAD_S: Final = 0.5
_DRAIN_S: Final = 120.0


def run(lab: Lab) -> None:
    """Measure."""
    agents = lab.settings.connections or _AGENTS
    away_s = min(_AWAY_S, lab.settings.seconds or _AWAY_S)
    steps = ((agents, away_s + _DRAIN_S),)
    pace = Population(steps=steps, think_s=_SPREAD_S, drain_s=1.0, once=True)
    calls = lab.calls("heal", agents)
    with lab.server():
        lab.warm_up()
        load = lab.load("agents", calls, pace)
    with ExitStack() as parts:

        def come_back() -> None:
            parts.enter_context(lab.server())

        back = Event(at_s=away_s, name="server back", act=come_back)
        measured = lab.measure("heal", [load], [back])
        lab.check_inventory(undelivered_allowed=True)
    books = measured.first
    back_s = measured.data["events"][0]["done_s"]
    lab.figure("time until all have a certificate", books.seconds - back_s, "s")
    lab.figure("longest wait of an identity", books.longest_ns / 1e9, "s")
    per_s = books.right / max(books.seconds - back_s, 0.001)
    lab.figure("certificates per second meanwhile", per_s, "certificates/s")
    unended = books.ended - books.right
    detail = f"{unended} of {books.ended} had none after {_DRAIN_S:.0f} s"
    lab.check("everybody got a certificate", detail, holds=not unended)


HEAL: Final = Scenario(
    name="heal",
    title="Partition heal: everyone at once after an outage",
    help="The server comes back after an outage, and everybody asks at once.",
    run=run,
    connections=_AGENTS,
    short_connections=200,
    short_s=2.0,
)
