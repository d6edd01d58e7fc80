"""`meshsigner intermediate`: from a request to a CA in use, for a CA with its key in a file."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.trust import load_directory
from tests.fakes.authority import Ca, Shape, make_ca
from tests.unit.cli.conftest import Run

NOW = datetime.now(UTC)
YEAR = Shape(not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=365))
ROOT = make_ca("corporate root", shape=YEAR)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """Return the directory of a CA that is not there yet."""
    return tmp_path / "ca"


def sign(request: Path, to: Path, root: Ca = ROOT) -> Path:
    """Sign a request as people do, by its extensions."""
    csr = x509.load_pem_x509_csr(request.read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(root.certificate.subject)
        .public_key(csr.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=30))
    )
    for extension in csr.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    to.write_bytes(builder.sign(root.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    to.with_suffix(".root").write_bytes(root.pem)
    return to


def test_request_install_and_status(run: Run, ca: Path, tmp_path: Path) -> None:
    """The whole way by commands ends in a directory that the server takes."""
    out = tmp_path / "ca.csr"
    run("intermediate", "request", "--directory", ca, "--out", out)
    signed = sign(out, tmp_path / "ca.pem")
    chain = ("--chain", signed.with_suffix(".root"))
    told = run("intermediate", "install", signed, *chain, "--directory", ca).stdout
    assert "meshsigner intermediate" in told
    assert "'CN=corporate root'" in told
    found = load_directory(ca, generation=1, now=NOW)
    assert found.issuer.trust_bundle.certificates == (ROOT.certificate,)
    status = json.loads(run("intermediate", "status", "--directory", ca, "--json").stdout)
    assert (status["due"], status["key_waits"]) == (False, False)


def test_request_goes_to_standard_output(run: Run, ca: Path) -> None:
    """Without --out the request alone is printed, so that it can be piped to whoever signs."""
    text = run("intermediate", "request", "--directory", ca, "--key-type", "p384").stdout
    assert x509.load_pem_x509_csr(text.encode()).is_signature_valid


def test_new_root_is_announced_and_told(run: Run, ca: Path, tmp_path: Path) -> None:
    """Under a new root the first run announces it, and says what to do next."""
    out, other = tmp_path / "ca.csr", make_ca("other root", shape=YEAR)
    run("intermediate", "request", "--directory", ca, "--out", out)
    first = sign(out, tmp_path / "first.pem")
    chain = ("--chain", first.with_suffix(".root"))
    run("intermediate", "install", first, *chain, "--directory", ca)
    run("intermediate", "request", "--directory", ca, "--out", out)
    second = sign(out, tmp_path / "second.pem", other)
    arguments = ("intermediate", "install", second, "--chain", second.with_suffix(".root"))
    told = run(*arguments, "--directory", ca)
    assert "run the same command again" in told.stderr
    done = json.loads(run(*arguments, "--directory", ca, "--json").stdout)
    assert done["installed"] is True
    assert done["roots"] == ["CN=other root", "CN=corporate root"]


def test_what_is_wrong_ends_with_3_and_changes_nothing(run: Run, ca: Path, tmp_path: Path) -> None:
    """A certificate without its root is refused with the way out."""
    out = tmp_path / "ca.csr"
    run("intermediate", "request", "--directory", ca, "--out", out)
    signed = sign(out, tmp_path / "ca.pem")
    refused = run("intermediate", "install", signed, "--directory", ca, code=3)
    assert "add it with --chain" in refused.stderr
    assert not (ca / "ca-cert.pem").exists()


@pytest.mark.parametrize(
    "options", [(), ("--backend", "hsm"), ("--directory", "ca", "--backend", "hsm")]
)
def test_place_must_be_said_in_one_way(run: Run, options: tuple[str, ...]) -> None:
    """Neither, half and both ways of naming a CA are a wrong command line."""
    refused = run("intermediate", "status", *options, code=2)
    assert "either --directory, or --config and --backend" in refused.stderr
