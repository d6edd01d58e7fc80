"""OpenSSL accepts the chains that Istio's client received, and prints Istio's profile."""

import subprocess
from pathlib import Path

import pytest

from tests.conformance.istio_client import CaseReport

ISSUED = ("issue-rsa2048", "issue-p256", "issue-p384")
PURPOSES = ("sslserver", "sslclient")
KEY_OF = {
    "issue-rsa2048": "Public-Key: (2048 bit)",
    "issue-p256": "ASN1 OID: prime256v1",
    "issue-p384": "ASN1 OID: secp384r1",
}


def _openssl(*arguments: str | Path) -> str:
    """Run openssl and return all it says; a failure is the test's."""
    done = subprocess.run(
        ["openssl", *arguments], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _write(folder: Path, pem: tuple[str, ...]) -> tuple[Path, Path, Path]:
    """Lay a chain out as openssl wants it: leaf, everything between, roots."""
    files = (folder / "leaf.pem", folder / "between.pem", folder / "roots.pem")
    for file, text in zip(files, (pem[0], "".join(pem[1:-1]), pem[-1]), strict=True):
        file.write_text(text)
    return files


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("case", ISSUED)
def test_openssl_verifies_the_chain(
    reports: dict[str, CaseReport], case: str, purpose: str, tmp_path: Path
) -> None:
    """Each chain holds for both ends of mutual TLS under OpenSSL's strict X.509 rules."""
    leaf, between, roots = _write(tmp_path, reports[case].pem)
    trust = ("-CAfile", roots, "-no-CApath", "-untrusted", between)
    said = _openssl("verify", "-x509_strict", "-purpose", purpose, *trust, leaf)
    assert said.strip() == f"{leaf}: OK"


def test_openssl_refuses_a_foreign_root(reports: dict[str, CaseReport], tmp_path: Path) -> None:
    """The check above can fail: without the announced root there is no chain."""
    leaf, between, _ = _write(tmp_path, reports["issue-p256"].pem)
    done = subprocess.run(
        ["openssl", "verify", "-no-CAfile", "-no-CApath", "-untrusted", between, leaf],
        check=False,
        capture_output=True,
        timeout=30,
    )
    assert done.returncode != 0


@pytest.mark.parametrize("case", ISSUED)
def test_openssl_prints_the_profile(
    reports: dict[str, CaseReport], case: str, tmp_path: Path
) -> None:
    """What OpenSSL prints of a leaf is Istio's profile: critical SAN, usages, no CA, no subject."""
    leaf, _, _ = _write(tmp_path, reports[case].pem)
    text = _openssl("x509", "-in", leaf, "-noout", "-text")
    for part in (
        "Version: 3 (0x2)",
        "Subject Alternative Name: critical\n                URI:spiffe://cluster.local/ns/foo/sa/bar\n",
        "Basic Constraints: critical\n                CA:FALSE\n",
        "Key Usage: critical\n                Digital Signature, Key Encipherment\n",
        "TLS Web Server Authentication, TLS Web Client Authentication\n",
        KEY_OF[case],
    ):
        assert part in text, part
    assert _openssl("x509", "-in", leaf, "-noout", "-subject") == "subject=\n"
