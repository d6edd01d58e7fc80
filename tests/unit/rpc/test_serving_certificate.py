"""Which pairs may be presented, and what becomes of bad ones."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from structlog.testing import capture_logs

from meshsigner.errors import ConfigurationError
from meshsigner.observe.metrics import Metrics
from meshsigner.rpc.serving_certificate import ServingCertificate, ServingPair
from tests.fakes.pipeline import make_ca_certificate
from tests.fakes.serving_tls import Identity, TestRoots
from tests.wire.harness import NAME

NOW = datetime.now(UTC)
GOOD = TestRoots().issue(NAME, "127.0.0.1")


def _write(folder: Path, identity: Identity) -> tuple[Path, Path]:
    files = (folder / "tls.crt", folder / "tls.key")
    files[0].write_bytes(identity.certificate)
    files[1].write_bytes(identity.key)
    return files


def test_a_good_pair() -> None:
    """Names and end are read from the leaf."""
    pair = ServingPair.parse(GOOD.certificate, GOOD.key, NOW)
    assert pair.names == (NAME, "127.0.0.1")
    assert pair.not_after > NOW


def _encrypted_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))


@pytest.mark.parametrize(
    ("certificate", "key", "shift", "said"),
    [
        (GOOD.certificate, TestRoots().issue("a").key, timedelta(0), "does not belong"),
        (GOOD.certificate, GOOD.key, timedelta(days=30), "in force"),
        (GOOD.certificate, GOOD.key, -timedelta(days=30), "in force"),
        (b"", GOOD.key, timedelta(0), "PEM"),
        (GOOD.certificate[:300], GOOD.key, timedelta(0), "PEM"),
        (GOOD.certificate, b"garbage", timedelta(0), "private key"),
        (GOOD.certificate, _encrypted_key(), timedelta(0), "encrypted"),
    ],
)
def test_bad_pairs(certificate: bytes, key: bytes, shift: timedelta, said: str) -> None:
    """A pair that would fail in every handshake is refused with the reason."""
    with pytest.raises(ValueError, match=said):
        ServingPair.parse(certificate, key, NOW + shift)


def test_a_certificate_without_names() -> None:
    """A common name alone is no name: no client of Istio's looks at it."""
    key = ec.generate_private_key(ec.SECP256R1())
    nameless = make_ca_certificate(key, "istiod")
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="names no host"):
        ServingPair.parse(
            nameless.public_bytes(Encoding.PEM), key_pem, nameless.not_valid_before_utc
        )


def test_no_pair_to_begin_with(tmp_path: Path) -> None:
    """At start a missing or bad pair is a configuration error that names the files."""
    with pytest.raises(ConfigurationError, match=r"tls\.crt"):
        ServingCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", metrics=Metrics())


def test_unchanged_files_are_not_taken_again(tmp_path: Path) -> None:
    """Nothing is reloaded while the files say the same."""
    certificate = ServingCertificate(*_write(tmp_path, GOOD), metrics=Metrics())
    assert not certificate.reload()
    _write(tmp_path, TestRoots().issue("b.example"))
    assert certificate.reload()
    assert certificate.pair.names == ("b.example",)
    assert not certificate.reload()


def test_vanished_files(tmp_path: Path) -> None:
    """Files that are gone for a while cost one line, however often they are looked for."""
    files = _write(tmp_path, GOOD)
    metrics = Metrics()
    certificate = ServingCertificate(*files, metrics=metrics)
    with capture_logs() as lines:
        for _ in range(2):
            files[0].unlink()
            assert [certificate.reload(), certificate.reload()] == [False, False]
            _write(tmp_path, GOOD)
            assert not certificate.reload()
    assert certificate.pair.names == (NAME, "127.0.0.1")
    assert [line["log_level"] for line in lines] == ["error", "error"]
    refused = {"result": "refused"}
    name = "meshsigner_serving_certificate_reloads_total"
    assert metrics.registry.get_sample_value(name, refused) == 2


def test_health_tells_end_and_problem(tmp_path: Path) -> None:
    """It is ready until the certificate expires, and says what is wrong with the next one."""
    now = [NOW]
    files = _write(tmp_path, GOOD)
    certificate = ServingCertificate(*files, metrics=Metrics(), now=lambda: now[0])
    (health,) = certificate.health()
    assert health.ready
    assert NAME in health.detail
    files[1].write_bytes(TestRoots().issue("a").key)
    certificate.reload()
    (health,) = certificate.health()
    assert health.ready
    assert "does not belong" in health.detail
    now[0] += timedelta(days=2)
    (health,) = certificate.health()
    assert not health.ready


async def test_watch_sees_a_kubernetes_swap(tmp_path: Path) -> None:
    """A swap of the `..data` link, as a kubelet does it, is seen."""
    for number, identity in enumerate((GOOD, TestRoots().issue("swapped.example"))):
        (tmp_path / f"..{number}").mkdir()
        _write(tmp_path / f"..{number}", identity)
    link = tmp_path / "..data"
    link.symlink_to("..0")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    certificate = ServingCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", metrics=Metrics())
    watching = asyncio.create_task(certificate.watch(interval_s=0.02))
    fresh = tmp_path / "..fresh"
    fresh.symlink_to("..1")
    fresh.replace(link)
    async with asyncio.timeout(5):
        while certificate.pair.names != ("swapped.example",):
            await asyncio.sleep(0.01)
    watching.cancel()


def test_grpc_is_handed_each_pair_once(tmp_path: Path) -> None:
    """GRPC asks in every handshake and hears of a pair when it is new."""
    certificate = ServingCertificate(*_write(tmp_path, GOOD), metrics=Metrics())
    certificate.credentials()
    assert certificate._fetch() is None
    _write(tmp_path, TestRoots().issue("c.example"))
    certificate.reload()
    assert certificate._fetch() is not None
    assert certificate._fetch() is None
