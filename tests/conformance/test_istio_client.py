"""Istio's own, unmodified client code gets what it needs from meshsigner.

The cases and their demands are in `istio/`; these tests run them and look at what they report.
"""

import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.conformance.istio_client import CaseReport, IstioClient
from tests.conformance.server import RunningServer

ISSUED = ("issue-rsa2048", "issue-rsa2048-pkcs8", "issue-p256", "issue-p384")
UNAUTHENTICATED = ("refuse-no-token", "refuse-expired", "refuse-wrong-audience")
BAD_REQUESTS = (
    "refuse-foreign-san",
    "refuse-second-san",
    "refuse-bad-signature",
    "refuse-not-pem",
    "refuse-not-a-csr",
)
OTHERS = (
    "issue-with-foreign-headers",
    "issue-default-lifetime",
    "same-csr-twice",
    "agent-secret",
    "mutual-tls",
    "recovers-after-refusal",
    "agent-retry-table",
    "tls",
)
TLS_OF_POLICY = {
    "fips-140-2": ("TLS 1.2", "CurveP256"),
    "fips-140-3": ("TLS 1.3", "CurveP256"),
    "pqc": ("TLS 1.3", "X25519MLKEM768"),
}
ISTIO_RETRIES = 5
# By gRPC's default rules the fourth ping closes the connection; istiod allows one every 15 s.
PINGS = ("-ping-every=16s", "-ping-count=5")
PINGS_TIMEOUT_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def pinging(istio: IstioClient) -> Iterator["subprocess.Popen[str]"]:
    """Let the slow case wait for its pings while the other tests run."""
    command = istio.command(["keepalive"], *PINGS)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_every_case_of_the_program_is_looked_at(reports: dict[str, CaseReport]) -> None:
    """A case that is added to the Go program without a test here does not go unseen."""
    assert set(reports) == {*ISSUED, *UNAUTHENTICATED, *BAD_REQUESTS, *OTHERS}


@pytest.mark.parametrize("case", ISSUED)
def test_each_key_of_the_agent_is_certified(reports: dict[str, CaseReport], case: str) -> None:
    """RSA-2048, P-256 and P-384 requests by Istio's GenCSR get a chain that Istio and Go verify."""
    report = reports[case]
    assert report.ok, report.error
    assert report.attempts == 1
    assert report.chain["identity"] == "spiffe://cluster.local/ns/foo/sa/bar"
    assert report.chain["subject"] == ""


@pytest.mark.parametrize("case", UNAUTHENTICATED)
def test_refused_caller_is_not_retried(reports: dict[str, CaseReport], case: str) -> None:
    """Without a good token the agent gets istiod's words once and gives up."""
    report = reports[case]
    assert report.ok, report.error
    assert (report.code, report.attempts) == ("Unauthenticated", 1)
    assert report.message == "request authenticate failure"


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_refused_request_is_not_retried(reports: dict[str, CaseReport], case: str) -> None:
    """A request that can never be granted is refused once, for good."""
    report = reports[case]
    assert report.ok, report.error
    assert (report.code, report.attempts) == ("InvalidArgument", 1)


@pytest.mark.parametrize("case", OTHERS)
def test_case_holds(reports: dict[str, CaseReport], case: str) -> None:
    """The case holds by its own demands (`istio/cases.go`)."""
    assert reports[case].ok, reports[case].error


@pytest.mark.parametrize("policy", sorted(TLS_OF_POLICY))
def test_compliance_policy_is_served(istio: IstioClient, policy: str) -> None:
    """Each COMPLIANCE_POLICY of Istio's client ends in its version and group and a certificate."""
    report = istio.run("tls", environment={"COMPLIANCE_POLICY": policy})["tls"]
    assert report.ok, report.error
    assert (report.tls["version"], report.tls["group"]) == TLS_OF_POLICY[policy]
    assert report.tls["alpn"] == "h2"


def test_serving_certificate_has_istiods_name(istio: IstioClient, server: RunningServer) -> None:
    """An agent that is told `localhost` asks for istiod.istio-system.svc, and finds it."""
    port = server.listen.rpartition(":")[2]
    local = IstioClient(server=f"localhost:{port}", root=istio.root, tokens=istio.tokens)
    report = local.run("issue-p256")["issue-p256"]
    assert report.ok, report.error


def test_agent_rotates_by_its_own_timer(istio: IstioClient) -> None:
    """Istio's secret cache renews a short-lived certificate at half of its life."""
    report = istio.run("agent-rotation")["agent-rotation"]
    assert report.ok, report.error


@contextmanager
def _locked(inventory: Path) -> Iterator[None]:
    """Hold the inventory's write lock, as a stuck backup would."""
    with closing(sqlite3.connect(inventory, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


def test_unwritable_inventory_is_retried(istio: IstioClient, server: RunningServer) -> None:
    """While the inventory cannot be written the agent is told to come again, and does."""
    with _locked(server.installation.inventory):
        report = istio.run("unavailable")["unavailable"]
    assert report.ok, report.error
    assert report.attempts == ISTIO_RETRIES
    after = istio.run("issue-p256")["issue-p256"]
    assert after.ok, after.error


def test_short_trouble_is_not_seen_by_the_workload(
    istio: IstioClient, server: RunningServer
) -> None:
    """A request made while the inventory is locked is granted once the lock is gone."""
    with _locked(server.installation.inventory):
        asking = subprocess.Popen(
            istio.command(["issue-p256"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        threading.Event().wait(0.4)
        assert asking.poll() is None, "the request did not meet the lock"
    output, problems = asking.communicate(timeout=60)
    assert CaseReport.parse(output).ok, output + problems


def test_keepalive_pings_are_tolerated(pinging: "subprocess.Popen[str]") -> None:
    """A connection outlives more pings than gRPC's default rules would allow."""
    output, problems = pinging.communicate(timeout=PINGS_TIMEOUT_S)
    assert CaseReport.parse(output).ok, output + problems
