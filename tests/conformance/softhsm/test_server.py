"""Whole servers whose CA key is in an HSM: from a call over gRPC to a row, and through faults."""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.conformance.softhsm.served import Place, load_ca
from tests.conformance.softhsm.token import PIN, SoftHsm
from tests.fakes.authority import Ca, is_signed_by, make_key
from tests.secret_scan import Secrets
from tests.wire.agents import IDENTITY, Tally, agents
from tests.wire.processes import Running, command

KEY = make_key("p256", 11)
ALLOWED = {"OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}  # what istio-agent retries
LONGEST_ANSWER_MS = 10_000
BACK_WITHIN_S = 5.0
SHORT_S, SOAK_S = 30.0, 300.0
FAULT_S, CALM_S = 1.5, 1.0
DEVICE_ERROR, SESSION_HANDLE_INVALID, FUNCTION_FAILED = "30", "b3", "6"


@pytest.fixture
def place(hsm: SoftHsm, tmp_path: Path) -> Place:
    """Return where a server of two workers runs from; its key is in the token."""
    hsm.add_key(KEY)
    return Place.make(tmp_path / "server", hsm, KEY, workers=2)


@pytest.fixture
def server(place: Place, no_secrets: Secrets) -> Iterator[Running]:
    """Return a server that is ready."""
    with place.serve(no_secrets) as server:
        server.address()
        yield server


def rows(server: Running) -> list[dict[str, str]]:
    """Return what is recorded."""
    where = ("--config", "meshsigner.yaml")
    done = command("inventory", "list", *where, "--json", cwd=server.directory)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def check_leaves(tally: Tally) -> None:
    """Check that every certificate is the HSM key's, and names the caller alone."""
    for leaf in tally.leaves:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.UniformResourceIdentifier(IDENTITY)]
        assert is_signed_by(leaf, KEY)


def check_record(tally: Tally, server: Running) -> None:
    """Check that nobody holds a certificate without a row, and that no row is doubled."""
    recorded = [row["serial"] for row in rows(server)]
    assert len(recorded) == len(set(recorded))
    assert tally.serials <= set(recorded)


def is_ready(server: Running) -> bool:
    """Ask the admin page."""
    try:
        with urllib.request.urlopen(f"http://{server.address('admin')}/healthz/ready") as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


async def test_certificates_come_from_the_hsm_and_are_recorded(
    server: Running, place: Place, hsm: SoftHsm
) -> None:
    """CSRs over gRPC become certificates of the HSM's key, each with its row, in every worker."""
    async with agents(server.address(), place.folder, fresh=4, warm=4) as tally:
        await tally.grown_by(100)
    assert not tally.lost
    assert hsm.count("C_Login") == 2  # once a worker
    check_leaves(tally)
    await asyncio.to_thread(check_record, tally, server)
    assert {row["backend"] for row in await asyncio.to_thread(rows, server)} == {"hsm"}
    assert set(re.findall(r'"event":"create certificate".*"worker":(\d)', server.said)) == {
        "0",
        "1",
    }


def test_workers_try_a_wrong_pin_once_all_together(
    place: Place, hsm: SoftHsm, no_secrets: Secrets
) -> None:
    """Of two workers one tries; with the right PIN in the file both log in, without a restart."""
    hsm.write_pin("999999")
    with place.serve(no_secrets) as server:
        server.wait_for(r"(refused the PIN [^\n]*\n[^$]*){2}")
        time.sleep(3.0)  # more than two attempts at a backend that is away
        assert hsm.count("C_Login") == 1
        hsm.write_pin(PIN)
        server.wait_for(r"(backend has its issuer[^$]*){2}")
        assert hsm.count("C_Login") == 3
        assert "999999" not in server.said


async def test_churn_survives_every_fault_of_the_hsm(
    server: Running, place: Place, hsm: SoftHsm, request: pytest.FixtureRequest
) -> None:
    """Sessions lost, device errors, a slow device, a token taken out: no certificate is wrong or without a row, every caller is answered in time, and 5 s after each fault all is well."""  # noqa: E501
    ends_s = time.monotonic() + (SOAK_S if request.config.getoption("--soak") else SHORT_S)
    back_s = []
    async with agents(server.address(), place.folder, fresh=4, warm=12) as tally:
        await tally.grown_by(20)
        while time.monotonic() < ends_s:
            for fault in (_drops, _device_error, _invalid_sessions, _slow, _taken_out):
                await fault(hsm)
                back_s.append(await _back(tally, server))
                await asyncio.sleep(CALM_S)
    assert max(back_s) < BACK_WITHIN_S, back_s
    assert set(tally.codes) <= ALLOWED, tally.codes
    assert tally.codes["UNAVAILABLE"] > 0, "no fault reached a caller"
    longest_ms = max(float(ms) for ms in re.findall(r'"duration_ms":([0-9.]+)', server.said))
    assert longest_ms < LONGEST_ANSWER_MS
    check_leaves(tally)
    await asyncio.to_thread(check_record, tally, server)
    assert '"reason":"internal"' not in server.said
    assert hsm.count("C_Sign") > len(tally.leaves)


async def _drops(hsm: SoftHsm) -> None:
    """Close all sessions a few times while certificates are asked for."""
    for _ in range(5):
        hsm.order(drop=time.monotonic_ns())
        await asyncio.sleep(FAULT_S / 5)
    hsm.order()


async def _device_error(hsm: SoftHsm) -> None:
    hsm.order(sign_rv=DEVICE_ERROR)
    await asyncio.sleep(FAULT_S)
    hsm.order()


async def _invalid_sessions(hsm: SoftHsm) -> None:
    hsm.order(sign_rv=SESSION_HANDLE_INVALID)
    await asyncio.sleep(FAULT_S)
    hsm.order(sign_rv=FUNCTION_FAILED)
    await asyncio.sleep(FAULT_S / 5)
    hsm.order()


async def _slow(hsm: SoftHsm) -> None:
    """Let each signature take a fifth of a second."""
    hsm.order(sign_ms=200)
    await asyncio.sleep(FAULT_S)
    hsm.order()


async def _taken_out(hsm: SoftHsm) -> None:
    hsm.take_away()
    await asyncio.sleep(FAULT_S)
    hsm.bring_back()


async def _back(tally: Tally, server: Running) -> float:
    """Wait until certificates come and the server is ready, and return how long it took."""
    began_s = time.monotonic()
    await tally.grown_by(10)
    while not await asyncio.to_thread(is_ready, server):
        assert time.monotonic() < began_s + 2 * BACK_WITHIN_S, server.said[-3_000:]
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


async def test_ca_that_people_renewed_is_followed(server: Running, place: Place) -> None:
    """A new certificate for the HSM's key is installed while the server runs: it signs from then on, without a restart and without a lost call, and what was issued before stays valid."""  # noqa: E501
    await asyncio.to_thread(sign_request, place.folder)
    async with agents(server.address(), place.folder, warm=4) as tally:
        await tally.grown_by(10)
        old = tally.leaves[0]
        install = ("intermediate", "install", "ca.pem", "--config", "meshsigner.yaml")
        done = await asyncio.to_thread(command, *install, "--backend", "hsm", cwd=place.folder)
        assert done.returncode == 0, done.stderr
        renewed = x509.load_pem_x509_certificate((place.folder / "ca.pem").read_bytes())
        async with asyncio.timeout(20):
            while not issued_under(tally.leaves[-1], renewed):
                await asyncio.sleep(0.1)
        await tally.grown_by(10)
    assert not tally.lost
    assert not issued_under(old, renewed)
    check_leaves(tally)
    await asyncio.to_thread(check_record, tally, server)


def issued_under(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    """Tell whether a leaf names a CA as its issuer."""
    return leaf.issuer == ca.subject


def sign_request(folder: Path) -> None:
    """Ask for another certificate of the HSM's key, and sign it as people do, by another name."""
    request = ("intermediate", "request", "--config", "meshsigner.yaml", "--backend", "hsm")
    done = command(*request, "--out", "ca.csr", cwd=folder)
    assert done.returncode == 0, done.stderr
    root = load_ca(folder / ".state" / "root-cert.pem", folder / ".state" / "ca" / "root-key.pem")
    csr = x509.load_pem_x509_csr((folder / "ca.csr").read_bytes())
    assert csr.public_key() == KEY.public_key()
    name = x509.NameAttribute(x509.NameOID.COMMON_NAME, "renewed")
    ca = make_ca_of(csr, x509.Name([name]), root)
    (folder / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))


def make_ca_of(
    csr: x509.CertificateSigningRequest, subject: x509.Name, root: Ca
) -> x509.Certificate:
    """Make the certificate that a request asks for, under another name."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(root.certificate.subject)
    builder = builder.public_key(csr.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(days=60))
    for extension in csr.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(root.key, hashes.SHA256())
