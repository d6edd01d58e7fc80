"""Tests of the self-made CA: made once, kept, renewed in time, never replaced by another."""

import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from meshsigner.errors import ConfigurationError
from meshsigner.signing.self_made import ROOT_KEY, SelfMadeCa
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import CaFiles, IssuerDirectory, load_directory
from tests.fakes.authority import NOW, cacerts, make_ca, write_files

DAY = timedelta(days=1)


def self_made(directory: Path) -> SelfMadeCa:
    """Return the CA of a directory."""
    return SelfMadeCa(directory=directory, trust_domain=TrustDomain.parse("cluster.local"))


def load(ca: SelfMadeCa, now: datetime = NOW) -> CaFiles:
    """Load what is in its directory."""
    return load_directory(ca.directory, generation=1, now=now)


@pytest.fixture
def ca(tmp_path: Path) -> SelfMadeCa:
    """Return a CA that was just made."""
    made = self_made(tmp_path / "state" / "ca")
    assert made.ensure(NOW)
    return made


def test_made_ca_is_good(ca: SelfMadeCa) -> None:
    """What is made loads without a remark: root for 10 years, intermediate for one."""
    files = load(ca)
    assert files.warnings == ()
    assert files.expires == NOW + 365 * DAY
    root = files.issuer.trust_bundle.certificates[0]
    assert root.not_valid_after_utc == NOW + 3_650 * DAY
    assert (files.issuer.certificate,) == files.issuer.intermediates


def test_keys_are_closed(ca: SelfMadeCa) -> None:
    """Keys are 0600, the directory 0700."""
    for name in (ROOT_KEY, "ca-key.pem"):
        assert stat.S_IMODE((ca.directory / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(ca.directory.stat().st_mode) == 0o700


def test_it_is_kept_over_restarts(ca: SelfMadeCa) -> None:
    """A second start finds the same CA."""
    before = load(ca).issuer.certificate
    assert not self_made(ca.directory).ensure(NOW + DAY)
    assert before == load(ca).issuer.certificate


def test_intermediate_is_renewed_in_its_last_third(ca: SelfMadeCa) -> None:
    """Before it nothing happens; then key and certificate are new, the root is the same."""
    before = load(ca)
    assert not ca.ensure(NOW + 243 * DAY)
    later = NOW + 244 * DAY
    assert ca.ensure(later)
    after = load(ca, later)
    assert before.issuer.certificate.public_key() != after.issuer.certificate.public_key()
    assert before.issuer.trust_bundle == after.issuer.trust_bundle
    assert after.expires == later + 365 * DAY
    assert not ca.ensure(later)


def test_offline_root_renews_nothing(ca: SelfMadeCa, tmp_path: Path) -> None:
    """Without the root's key the CA signs on; when the key is back, it is renewed."""
    key = ca.directory / ROOT_KEY
    key.rename(tmp_path / "safe")
    before, late = load(ca), NOW + 300 * DAY
    assert not ca.ensure(late)
    assert before.issuer.certificate == load(ca, late).issuer.certificate
    (tmp_path / "safe").rename(key)
    assert ca.ensure(late)


def test_expired_intermediate_is_renewed(ca: SelfMadeCa) -> None:
    """A server that was off for years starts with a fresh intermediate under its old root."""
    root, late = load(ca).issuer.trust_bundle, NOW + 1_000 * DAY
    assert ca.ensure(late)
    assert root == load(ca, late).issuer.trust_bundle


def test_near_the_roots_end_it_is_not_renewed_in_vain(ca: SelfMadeCa) -> None:
    """When a new intermediate would end with the root as well, none is made."""
    late = NOW + 3_500 * DAY
    assert ca.ensure(late)
    assert load(ca, late).expires == NOW + 3_650 * DAY
    assert not ca.ensure(late + 120 * DAY)


def test_interrupted_making_is_finished_with_the_same_root_key(ca: SelfMadeCa) -> None:
    """A crash after the root's key was written costs nothing: the key is used."""
    key = (ca.directory / ROOT_KEY).read_bytes()
    (ca.directory / "current").unlink()
    for link in ca.directory.glob("*.pem"):
        if link.is_symlink():
            link.unlink()
    assert ca.ensure(NOW)
    assert key == (ca.directory / ROOT_KEY).read_bytes()
    assert len(list(ca.directory.glob("generation-*"))) == 1
    assert load(ca).issuer.generation == 1


def test_damaged_ca_is_not_made_anew(ca: SelfMadeCa) -> None:
    """A lost file is an error that names it: a new root would cut off the whole mesh."""
    (ca.directory / "root-cert.pem").resolve().unlink()
    with pytest.raises(ConfigurationError, match=r"root-cert.pem: is missing"):
        ca.ensure(NOW)


def test_operators_own_files_are_left_alone(tmp_path: Path) -> None:
    """In a directory with somebody's own CA nothing is made."""
    own = make_ca("own")
    directory = write_files(tmp_path / "ca", cacerts(own, chain=[own], roots=[own]))
    assert not self_made(directory).ensure(NOW + 10_000 * DAY)
    assert not (directory / ROOT_KEY).exists()


def test_wrong_root_key_is_told(ca: SelfMadeCa) -> None:
    """A key that is not the root's is refused in words, and nothing is written."""
    before = load(ca).issuer.certificate
    write_files(ca.directory, {ROOT_KEY: make_ca("other").key_pem()})
    with pytest.raises(ConfigurationError, match=r"root-key.pem: is no key of root-cert.pem"):
        ca.ensure(NOW + 300 * DAY)
    assert before == load(ca).issuer.certificate


def test_open_root_key_is_told(ca: SelfMadeCa) -> None:
    """A root key that others can read is not used."""
    (ca.directory / ROOT_KEY).chmod(0o644)
    with pytest.raises(ConfigurationError, match="has mode 0644"):
        ca.ensure(NOW + 300 * DAY)


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A path below a file says so in words."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="the CA cannot be kept there"):
        self_made(tmp_path / "file" / "ca").ensure(NOW)


async def test_running_server_takes_the_renewed_intermediate(tmp_path: Path) -> None:
    """As upkeep of the followed directory, renewal reaches the signer without a restart."""
    ca, now = self_made(tmp_path / "ca"), [NOW]
    followed = IssuerDirectory(ca.directory, clock=lambda: now[0], upkeep=ca.ensure)
    before = followed.current
    assert not await followed.look()
    now[0] += 300 * DAY
    assert await followed.look()
    assert followed.current.expires == now[0] + 365 * DAY
    assert before.issuer.trust_bundle == followed.current.issuer.trust_bundle
