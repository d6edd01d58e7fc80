"""A secret that Envoy refuses is told once, repeated never, and the last good one stays.

The fault is put into the agent itself (`faulty_agent`), for what a CA sends is checked before.
"""

import signal
import sys
import time
from operator import attrgetter

from tests.conformance.sds import traffic
from tests.conformance.sds.agent import RunningAgent
from tests.conformance.sds.envoy import Envoy
from tests.conformance.sds.mesh import Mesh, Pair, pair

FAULTY = (sys.executable, "-m", "tests.conformance.sds.faulty_agent")
LOOP_S = 2.0  # time for a loop to show itself
LEAST_REQUESTS = 20
REFUSED = r"^sds\.default\.update_rejected$"


def _sent(one: RunningAgent, version: str) -> int:
    return sum(version in line["versions"].values() for line in one.lines("secrets sent"))


def _check_refusal(one: RunningAgent, running: Envoy) -> str:
    """Check what agent and Envoy say of the refusal, and return the version that is refused."""
    told = one.wait_for("Envoy refused secrets")
    assert "private key" in told["cause"].lower(), told
    assert running.total(REFUSED) == 1
    assert list(told["versions"]) == ["default"]
    version: str = told["versions"]["default"]
    return version


def _signal(both: Pair, number: signal.Signals) -> None:
    for one in both.agents:
        one.process.send_signal(number)


def test_statement_65_a_refused_secret_changes_nothing(mesh: Mesh) -> None:
    """Both Envoys refuse a key that is not the certificate's; traffic and renewals go on."""
    envoys = attrgetter("client", "server")
    with pair(mesh, instead=FAULTY, renewal={"spread": "0s"}) as both:
        with traffic.running(both.plain) as load:
            held = [one.serials() for one in envoys(both)]
            _signal(both, signal.SIGUSR1)
            refused = [*map(_check_refusal, both.agents, envoys(both))]
            time.sleep(LOOP_S)
            assert [one.serials() for one in envoys(both)] == held
            _signal(both, signal.SIGUSR2)
            for one in both.agents:
                one.wait_for("certificate obtained", 2)
            both.wait_fresh()
        load.check(least=LEAST_REQUESTS)
        assert [*map(_sent, both.agents, refused)] == [1, 1]
        assert [len(one.lines("Envoy refused secrets")) for one in both.agents] == [1, 1]
