"""The comparison with Istio's CA: its files, its cases, its arithmetic."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.load.audit import Audit
from benchmarks.load.report import Latency
from benchmarks.peers import report
from benchmarks.peers.authority import make_authority, make_token_issuer
from benchmarks.peers.side_by_side import DEFAULTS, PeersPlan, cases
from benchmarks.peers.stretch import Stretch
from meshsigner.trust import load_directory

FINE = Audit(statuses={"OK": 1}, messages={}, wrong=(), right=1)
NO_LATENCY = Latency(p50_ms=1, p90_ms=1, p99_ms=1, p999_ms=1, max_ms=1)


def stretch(server: str, case: str, number: int, cpu_us: float, audit: Audit = FINE) -> Stretch:
    return Stretch(
        server=server,
        case=case,
        round=number,
        calls=1,
        cpu_us=cpu_us,
        supervisor_us=1.0,
        system_us=0.0,
        driver_us=0.0,
        per_s=100.0,
        latency=NO_LATENCY,
        audit=audit,
    )


def all_cases(ours_us: float, theirs_us: float) -> list[Stretch]:
    return [
        stretch(server, str(case), number, us)
        for case in cases()
        for number in range(3)
        for server, us in (("meshsigner", ours_us), ("istio", theirs_us))
    ]


def test_authority_is_a_ca_directory(tmp_path: Path) -> None:
    """The CA that both servers get is one that meshsigner itself would take."""
    authority = make_authority(tmp_path, ca_key="p256", serving_key="p256")
    files = load_directory(authority.ca, generation=1, now=datetime.now(UTC))
    assert len(files.issuer.trust_bundle.certificates) == 1


def test_token_issuer_publishes_no_private_key(tmp_path: Path) -> None:
    """The file that servers read holds the public key, under the tokens' kid."""
    jwks = tmp_path / "jwks.json"
    issuer = make_token_issuer(jwks)
    assert issuer.key_id in jwks.read_text()
    assert '"d"' not in jwks.read_text()


def test_every_kind_of_key_and_way_is_a_case() -> None:
    """Both ways, both CA keys, both CSRs, and Istio's default for each way."""
    named = [str(case) for case in cases()]
    assert len(set(named)) == len(named) == 10
    assert sum(DEFAULTS in name for name in named) == 2


def test_steps_count_both_servers() -> None:
    """The progress bar ends when the last stretch does."""
    assert PeersPlan(rounds=3).steps == 60


def test_ratio_is_taken_round_by_round() -> None:
    """A round that was slow for both servers does not move the ratio."""
    found = all_cases(600, 500) + [
        stretch(server, str(case), 3, us)
        for case in cases()
        for server, us in (("meshsigner", 6_000), ("istio", 5_000))
    ]
    assert all(one.ratio.median == 1.2 for one in report.compare(found))


def test_goal_depends_on_the_ca_key() -> None:
    """1.1 times Istio's CPU is good with a P-256 CA and not good enough with others."""
    met = {one.case.ca for one in report.compare(all_cases(550, 500)) if one.met}
    assert met == {"p256"}


def test_refusals_and_wrong_certificates_are_faults() -> None:
    """A figure over calls that were refused is worth nothing, and says so."""
    refused = Audit(statuses={"UNAVAILABLE": 1}, messages={"no": 1}, wrong=(), right=0)
    foreign = Audit(statuses={"OK": 1}, messages={}, wrong=("another's key",), right=0)
    found = report.faults(
        [
            stretch("istio", "warm", 0, 1),
            stretch("meshsigner", "warm", 0, 1, refused),
            stretch("istio", "churn", 1, 1, foreign),
        ]
    )
    assert len(found) == 2
    assert "UNAVAILABLE" in found[0]
    assert "another's key" in found[1]


def test_markdown_marks_what_is_missed() -> None:
    """The page's table has a row a case, and a missed goal is bold."""
    lines = report.markdown(report.compare(all_cases(650, 500))).splitlines()
    assert len(lines) == 12
    assert "**1.30" in lines[2]


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_data_holds_goals_and_verdicts(kind: str) -> None:
    """The file says for each case what was wanted and whether it was reached."""
    data = report.as_data(PeersPlan(rounds=3), all_cases(1_000, 500))
    ones = [one for one in data["figures"] if one["case"]["ca"] == kind]
    assert [one["met"] for one in ones] == [False] * 4
    assert data["faults"] == []
