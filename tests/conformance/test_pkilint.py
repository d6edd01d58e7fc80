"""pkilint, an independent linter of RFC 5280, says nothing that is not known and explained."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.istio_client import CaseReport
from tests.conformance.prerequisites import SERVERS_BIN

ISSUED = ("issue-rsa2048", "issue-p256", "issue-p384")
FALSE_ALARM = "pkix.invalid_uri_syntax"
SEVERE = {"FATAL", "ERROR", "WARNING", "NOTICE"}
# What istiod's own profile brings along; the peers of today's meshes are used to exactly this.
EXPLAINED = {
    # RFC 5280 4.2.1.2 has SHOULD for end entities; istiod leaves it out, nothing looks for it.
    "pkix.certificate_skid_end_entity_missing": ISSUED,
    # RFC 5480 3 has no keyEncipherment for EC keys; istiod sets it whatever the key.
    "pkix.key_usage_value_prohibited_for_ec": ("issue-p256", "issue-p384"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing pkilint says.

    Args:
        severity: FATAL to DEBUG.
        code: Its stable name.
        message: What it says of this certificate.
    """

    severity: str
    code: str
    message: str


def _lint(certificate: str, folder: Path) -> list[Finding]:
    """Return all of pkilint's findings on one PEM certificate."""
    file = folder / "certificate.pem"
    file.write_text(certificate)
    done = subprocess.run(
        [SERVERS_BIN / "lint_pkix_cert", "lint", "-s", "ALL", "-f", "JSON", file],
        check=False,  # its exit status counts findings
        capture_output=True,
        text=True,
        timeout=60,
    )
    results = json.loads(done.stdout)["results"]
    assert len(results) > len(SEVERE), done.stderr
    return [
        Finding(severity=one["severity"], code=one["code"], message=one["message"] or "")
        for result in results
        for one in result["finding_descriptions"]
    ]


def _severe(findings: list[Finding]) -> list[Finding]:
    """Leave out what is only information, and the one false alarm on SPIFFE's URI scheme."""
    return [
        one
        for one in findings
        if one.severity in SEVERE and not (one.code == FALSE_ALARM and '"spiffe://' in one.message)
    ]


@pytest.mark.parametrize("case", ISSUED)
def test_leaf_has_only_explained_findings(
    reports: dict[str, CaseReport], case: str, tmp_path: Path
) -> None:
    """A leaf has exactly the findings that Istio's profile implies: none more, and none less."""
    findings = _lint(reports[case].pem[0], tmp_path)
    assert any(one.code == FALSE_ALARM for one in findings), "the filter above is not needed"
    expected = {code for code, cases in EXPLAINED.items() if case in cases}
    assert {one.code for one in _severe(findings)} == expected


def test_issuers_have_no_finding(reports: dict[str, CaseReport], tmp_path: Path) -> None:
    """The intermediates and the root that `dev run` makes are clean."""
    for certificate in reports["issue-p256"].pem[1:]:
        assert _severe(_lint(certificate, tmp_path)) == []
