"""A certificate as files: written whole, read back only when it is good."""

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from meshsigner.agent.answer import check_answer
from meshsigner.agent.keys import KeyType, PrivateKey, build_csr, make_key, render_key
from meshsigner.agent.life import svid_of
from meshsigner.agent.output import OutputFiles
from meshsigner.agent.secrets import Svid
from meshsigner.spiffe import SpiffeId
from meshsigner.trust.writing import swap_files
from tests.fakes.workload_ca import FakeCa

IDENTITY = SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/productpage")
HOUR = timedelta(hours=1)


def _svid(ca: FakeCa, key: PrivateKey | None = None) -> Svid:
    key = key or make_key(KeyType.P256)
    csr = x509.load_pem_x509_csr(build_csr(key, str(IDENTITY)))
    now = datetime.now(UTC)
    answer = check_answer(ca.issue(csr, HOUR), key.public_key(), str(IDENTITY), now)
    return svid_of(answer, key, now)


@pytest.fixture
def files(tmp_path: Path) -> OutputFiles:
    """Files in an empty directory."""
    return OutputFiles(tmp_path, IDENTITY, swap_files)


def _now() -> datetime:
    return datetime.now(UTC)


def test_files_are_istios(tmp_path: Path, files: OutputFiles) -> None:
    """Names, contents and modes of OUTPUT_CERTS: chain with roots, a key for its owner alone."""
    svid = _svid(FakeCa())
    files.keep(svid)
    assert (tmp_path / "key.pem").read_bytes() == svid.key_pem
    assert (tmp_path / "cert-chain.pem").read_bytes() == svid.chain_pem + svid.roots_pem
    assert (tmp_path / "root-cert.pem").read_bytes() == svid.roots_pem
    modes = [
        stat.S_IMODE((tmp_path / name).stat().st_mode)
        for name in ("key.pem", "cert-chain.pem", "root-cert.pem")
    ]
    assert modes == [0o600, 0o644, 0o644]


@pytest.mark.parametrize("kind", KeyType)
def test_what_was_kept_comes_back(files: OutputFiles, kind: KeyType) -> None:
    """Key, chain and roots are the same, so that an Envoy sees no change over a restart."""
    svid = _svid(FakeCa(), make_key(kind))
    files.keep(svid)
    restored = files.restore(_now())
    assert restored is not None
    assert (restored.key_pem, restored.chain_pem) == (svid.key_pem, svid.chain_pem)
    assert (restored.roots_pem, restored.serial) == (svid.roots_pem, svid.serial)
    assert restored.taken_at == svid.not_before


def test_empty_directory_is_no_remark(files: OutputFiles) -> None:
    """The first start has nothing to read, and says nothing about it."""
    with capture_logs() as logs:
        assert files.restore(_now()) is None
    assert logs == []


def _broken(tmp_path: Path, how: str) -> None:
    ca = FakeCa()
    if how == "another key":
        (tmp_path / "key.pem").write_bytes(render_key(make_key(KeyType.P256)))
    elif how == "no key":
        (tmp_path / "key.pem").write_text("junk")
    elif how == "other roots":
        (tmp_path / "root-cert.pem").write_bytes(ca.roots[0].pem)
    elif how == "no roots":
        (tmp_path / "root-cert.pem").unlink()
    elif how == "half a chain":
        whole = (tmp_path / "cert-chain.pem").read_text()
        (tmp_path / "cert-chain.pem").write_text(whole[: len(whole) // 3])


@pytest.mark.parametrize(
    "how", ["another key", "no key", "other roots", "no roots", "half a chain", "expired"]
)
def test_what_is_not_good_is_not_served(tmp_path: Path, files: OutputFiles, how: str) -> None:
    """Files that do not belong together, or not to this time, are left alone, with a word."""
    files.keep(_svid(FakeCa()))
    for name in (
        "key.pem",
        "cert-chain.pem",
        "root-cert.pem",
    ):  # plain files, to be broken one by one
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(data)
    _broken(tmp_path, how)
    with capture_logs() as logs:
        assert files.restore(_now() + (2 * HOUR if how == "expired" else timedelta())) is None
    assert [line["event"] for line in logs] == ["no certificate restored from files"]


def test_certificate_of_another_identity_is_not_served(tmp_path: Path) -> None:
    """A directory that was another workload's gives nobody its identity."""
    OutputFiles(tmp_path, IDENTITY, swap_files).keep(_svid(FakeCa()))
    other = SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/reviews")
    with capture_logs() as logs:
        assert OutputFiles(tmp_path, other, swap_files).restore(_now()) is None
    assert "asked was" in logs[0]["cause"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file to another user")
def test_key_of_another_user_is_not_served(tmp_path: Path, files: OutputFiles) -> None:
    """Who can write the key has chosen it."""
    files.keep(_svid(FakeCa()))
    os.chown(tmp_path / "key.pem", 1000, -1)
    with capture_logs() as logs:
        assert files.restore(_now()) is None
    assert logs[0]["cause"] == "key.pem belongs to user 1000"


def test_key_of_a_foreign_kind_is_not_served(tmp_path: Path, files: OutputFiles) -> None:
    """The agent never made such a key."""
    files.keep(_svid(FakeCa()))
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").unlink()
    (tmp_path / "key.pem").write_bytes(pem)
    assert files.restore(_now()) is None
