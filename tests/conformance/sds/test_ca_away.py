"""The CA is away: at the start, in mid-life, or behind roots that are not its own.

Envoy waits for its first secrets as long as it takes, traffic goes on with what there is, and the
agents come back one by one.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.sds import agent, envoy, traffic
from tests.conformance.sds.agent import AgentPlan, Line, RunningAgent
from tests.conformance.sds.authority import new_ca
from tests.conformance.sds.bootstrap import Bootstrap, listener_resources, server_listener
from tests.conformance.sds.conftest import LIFETIME_S, SHORT_LIVES, short_directory
from tests.conformance.sds.mesh import CLIENT, SERVER, Mesh, identity, pair, wait_presented
from tests.conformance.server import Installation, free_address, running, start

SHORT_S, LONG_S = 5.0, 30.0
ROUND_S = 1.2  # the least that five attempts take when nobody answers: their waits, less jitter
MANY = 12
WARMING = r"^listener_manager\.total_listeners_warming$"
BACK_WITHIN_S = 90.0
# Renewal with 14 of 20 s left: an outage meets one soon, and leaves time after it.
GRACE_RATIO = 0.7


@pytest.fixture(scope="module")
def away(command: Path) -> Iterator[Mesh]:
    """Prepare a mesh whose CA has run once, so that there are tokens and roots, and is away."""
    with short_directory() as place:
        made = Installation(command=command, state_dir=place / "state", environment=SHORT_LIVES)
        with running(made) as server:
            mesh = Mesh(installation=made, ca=server.listen, roots=made.root, directory=place)
            for name in (CLIENT, SERVER):
                mesh.token(name)
        yield mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """What a mesh saw that was started without its CA.

    Attributes:
        warming: How many listeners waited for secrets, all through the outage.
        early: Certificates that Envoy presented meanwhile.
        failures: What the one agent and the one for many have logged meanwhile.
        presented: Certificates that Envoy presented when the CA had come.
        obtained: Serial number of what its agent had obtained.
    """

    warming: set[int]
    early: set[str]
    failures: tuple[list[Line], list[Line]]
    presented: set[str]
    obtained: str


@pytest.fixture(scope="module")
def outage(away: Mesh, *, soak: bool) -> Outage:
    """Start an Envoy with its agent, and an agent for many, and let the CA come late."""
    with (
        agent.running(away.plan(SERVER)) as one,
        agent.running(_plan_of_many(away)) as many,
        envoy.running(_with_late_listener(away), away.directory) as server,
    ):
        server.wait_live()
        _show_listener(away)
        server.wait(lambda: server.total(WARMING) == 1, "warming")
        time.sleep(LONG_S if soak else SHORT_S)
        warming, early = {server.total(WARMING)}, server.serials()
        failures = tuple(agents.lines("no certificate obtained") for agents in (one, many))
        with running(away.installation, listen=away.ca):
            many.wait_for("certificate obtained", MANY, BACK_WITHIN_S)
            one.wait_for("certificate obtained", timeout_s=BACK_WITHIN_S)
            wait_presented(server, one)
            return Outage(
                warming=warming,
                early=early,
                failures=(failures[0], failures[1]),
                presented=server.serials(),
                obtained=one.serial(),
            )


def _plan_of_many(mesh: Mesh) -> AgentPlan:
    """Plan an agent of many workloads at a shared socket."""
    who = {"identity": identity(CLIENT), "token_file": os.fspath(mesh.token(CLIENT))}
    shared = {"path": mesh.directory / "shared", "directory": mesh.directory / "own"}
    return AgentPlan(
        name="many",
        command=mesh.installation.command,
        directory=mesh.directory,
        ca=mesh.ca,
        roots=mesh.roots,
        workloads=[{"name": f"w{n}", "user": 20_000 + n, **who} for n in range(MANY)],
        more={"shared_socket": {name: os.fspath(path) for name, path in shared.items()}},
    )


def _with_late_listener(mesh: Mesh) -> Bootstrap:
    """Plan an Envoy whose mTLS listener comes after its start, as Istio's do."""
    file = mesh.directory / "listeners.json"
    file.write_text(json.dumps(listener_resources([])))
    return Bootstrap(
        node="server-envoy", admin=free_address(), sds=mesh.sds(SERVER), listener_file=file
    )


def _show_listener(mesh: Mesh) -> None:
    listener = server_listener(free_address(), mesh.sds(SERVER), [identity(CLIENT)])
    fresh = mesh.directory / "listeners.new"
    fresh.write_text(json.dumps(listener_resources([listener])))
    fresh.replace(mesh.directory / "listeners.json")


def test_statement_68_listener_waits_for_the_ca(outage: Outage) -> None:
    """Without a CA the listener warms in Envoy; when the CA comes, it serves."""
    assert outage.warming == {1}
    assert outage.early == set()
    assert outage.presented == {outage.obtained}


def test_absence_is_told_in_words(outage: Outage) -> None:
    """The agent says that it has no certificate, why, and when it will ask again."""
    alone, _ = outage.failures
    assert alone
    assert {line["code"] for line in alone} == {"UNAVAILABLE"}
    assert all("connect" in line["cause"] and line["again_after_s"] > 0 for line in alone)


def test_many_do_not_come_as_one(outage: Outage, *, soak: bool) -> None:
    """Rounds of attempts are few, and the waits between them random: no herd at the CA's door."""
    _, many = outage.failures
    rounds = Counter(line["workload"] for line in many)
    assert len(rounds) == MANY
    most = (LONG_S if soak else SHORT_S) / ROUND_S + 2  # one under way at either end
    assert max(rounds.values()) <= most
    assert len({line["again_after_s"] for line in many}) >= MANY // 3


def test_traffic_goes_on_while_the_ca_is_away(away: Mesh, *, soak: bool) -> None:
    """An outage in mid-life is seen by no request, and both agents renew when it is over."""
    long = LONG_S if soak else 0.0
    workload = {"lifetime": f"{LIFETIME_S + long * 2:.0f}s"}
    ca = start(away.installation, listen=away.ca)
    try:
        with pair(away, workload=workload, renewal={"grace_ratio": GRACE_RATIO}) as both:
            with traffic.running(both.plain) as load:
                assert ca.stop() == 0
                held = [_serial_after_failure(one) for one in both.agents]
                time.sleep(long)
                with running(away.installation, listen=away.ca):
                    for one, old in zip(both.agents, held, strict=True):
                        one.wait(lambda who=one, old=old: who.serial() != old, "renewed")  # type: ignore[misc]  # bound now
                    both.wait_fresh()
            load.check(least=20)
    finally:
        ca.stop()


def _serial_after_failure(one: RunningAgent) -> str:
    """Wait until a renewal has failed, and return what is served all the same."""
    failed = one.wait_for("no certificate obtained")
    assert failed["serving_until"]
    return one.serial()


def test_wrong_roots_are_read_again(mesh: Mesh, place: Path) -> None:
    """An agent that does not trust its CA says so, and goes on when its root file is right."""
    roots = place / "roots.pem"
    roots.write_bytes(new_ca("somebody else").pem)
    socket = {"socket": os.fspath(place / "uds" / "socket")}
    usual = mesh.plan(CLIENT, workload=socket)
    plan = AgentPlan(
        name="distrustful",
        command=usual.command,
        directory=place,
        ca=usual.ca,
        roots=roots,
        workloads=usual.workloads,
    )
    with agent.running(plan) as one:
        failed = one.wait_for("no certificate obtained")
        assert "CERTIFICATE_VERIFY_FAILED" in failed["cause"]
        roots.write_bytes(mesh.roots.read_bytes())
        one.wait_for("certificate obtained")
