"""Tests of the server's own certificate: fresh, under the CA of the moment, in files."""

import asyncio
import stat
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store

from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.signing.serving import ServingIssuer
from meshsigner.trust import CaFiles, load_directory
from tests.fakes.authority import NOW, Ca, Shape, cacerts, make_ca, write_files

NAMES = ("localhost", ip_address("127.0.0.1"), "istiod.istio-system.svc")
HOUR = timedelta(hours=1)
ROOT = make_ca("root")


class World:
    """A CA that can be swapped, and a clock that can be set."""

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self._directory = directory
        self.swap(make_ca("one", issuer=ROOT))

    def swap(self, issuer: Ca, *roots: Ca) -> None:
        """Let another CA sign."""
        files = cacerts(issuer, chain=[issuer], roots=roots or (ROOT,))
        write_files(self._directory, files)
        self.current: CaFiles = load_directory(self._directory, generation=1, now=self.now)

    def health(self, now: datetime) -> Health:
        """Say that all is well."""
        return Health(name="issuer", ready=True, detail=str(now))

    def clock(self) -> datetime:
        """Return the set time."""
        return self.now


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world with a CA."""
    return World(tmp_path / "ca")


def serve(world: World, directory: Path, *names: object) -> ServingIssuer:
    """Return the serving certificate of a directory."""
    chosen = names or NAMES
    return ServingIssuer(directory, world, names=chosen, clock=world.clock)  # type: ignore[arg-type]


def test_statement_60_certificate_at_hand_stays_until_the_new_root_may_be_shown(
    world: World, tmp_path: Path
) -> None:
    """A CA under another root is not shown before it is allowed, while the old one is good."""
    allowed = [False]
    serving = ServingIssuer(
        tmp_path / "tls",
        world,
        names=NAMES,
        clock=world.clock,
        may_show=lambda files, _: allowed[0] and files is world.current,
    )
    assert serving.ensure(), "nothing was shown before: nobody can be too early"
    before = chain_of(serving)
    other = make_ca("other root")
    world.swap(make_ca("two", issuer=other), other, ROOT)
    assert not serving.ensure()
    assert chain_of(serving) == before
    world.now = before[0].not_valid_after_utc + timedelta(seconds=1)
    assert serving.ensure(), "nothing is left to lose"
    world.now = NOW
    world.swap(make_ca("three", issuer=other), other, ROOT)
    allowed[0] = True
    assert serving.ensure()


def chain_of(serving: ServingIssuer) -> list[x509.Certificate]:
    """Return what the server would present."""
    return x509.load_pem_x509_certificates(serving.certificate_file.read_bytes())


def test_first_certificate(world: World, tmp_path: Path) -> None:
    """It lasts a day, bears the names, and comes with its intermediate and a closed key."""
    serving = serve(world, tmp_path / "tls")
    assert serving.ensure()
    leaf, *above = chain_of(serving)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=1)
    assert tuple(above) == world.current.issuer.intermediates
    verifier = PolicyBuilder().store(Store([ROOT.certificate])).time(NOW)
    assert verifier.build_server_verifier(x509.DNSName("localhost")).verify(leaf, above)
    assert stat.S_IMODE(serving.key_file.stat().st_mode) == 0o600
    key = load_pem_private_key(serving.key_file.read_bytes(), None)
    assert key.public_key() == leaf.public_key()


def test_it_is_kept_until_half_of_its_life(world: World, tmp_path: Path) -> None:
    """A restart keeps it; at half life there is a new one with the same key."""
    assert serve(world, tmp_path / "tls").ensure()
    serving = serve(world, tmp_path / "tls")
    before = chain_of(serving)[0]
    world.now += 11 * HOUR
    assert not serving.ensure()
    world.now += HOUR
    assert serving.ensure()
    after = chain_of(serving)[0]
    assert after.not_valid_after_utc == world.now + timedelta(days=1)
    assert before.public_key() == after.public_key()


def test_new_ca_means_a_new_certificate(world: World, tmp_path: Path) -> None:
    """When another CA signs, the server's certificate is under it; a namesake is another CA."""
    serving = serve(world, tmp_path / "tls")
    serving.ensure()
    for name in ("two", "two"):
        world.swap(make_ca(name, issuer=ROOT))
        assert serving.ensure()
        assert tuple(chain_of(serving)[1:]) == world.current.issuer.intermediates
        assert not serving.ensure()


def test_root_that_signs_stands_alone(world: World, tmp_path: Path) -> None:
    """Under a root the server presents its own certificate only; a renamed CA is noticed."""
    serving = serve(world, tmp_path / "tls")
    serving.ensure()
    for name in ("first", "first"):
        root = make_ca(name)
        world.swap(root, root)
        assert serving.ensure()
        assert len(chain_of(serving)) == 1


@pytest.mark.parametrize("names", [("localhost",), ("localhost", ip_address("::1"))])
def test_other_names_mean_a_new_certificate(
    world: World,
    tmp_path: Path,
    names: tuple[object, ...],
) -> None:
    """When the configuration names other hosts, the certificate does too."""
    serve(world, tmp_path / "tls").ensure()
    serving = serve(world, tmp_path / "tls", *names)
    assert serving.ensure()
    assert not serving.ensure()


@pytest.mark.parametrize("content", [b"", b"rubbish", ROOT.pem])
def test_foreign_file_is_replaced(world: World, tmp_path: Path, content: bytes) -> None:
    """A certificate file that is damaged or not ours is written anew."""
    serving = serve(world, tmp_path / "tls")
    serving.ensure()
    serving.certificate_file.write_bytes(content)
    assert serving.ensure()
    assert len(chain_of(serving)) == 2


def test_certificate_from_the_future_is_replaced(world: World, tmp_path: Path) -> None:
    """After a clock that was ahead has been set right, the certificate is valid again."""
    serving = serve(world, tmp_path / "tls")
    world.now += 20 * HOUR
    serving.ensure()
    world.now -= 20 * HOUR
    assert serving.ensure()
    assert chain_of(serving)[0].not_valid_before_utc <= NOW


def test_it_never_outlives_its_ca(world: World, tmp_path: Path) -> None:
    """Near the CA's end it ends with the CA, and is not renewed in vain."""
    world.swap(make_ca("brief", issuer=ROOT, shape=Shape(not_after=NOW + HOUR)))
    serving = serve(world, tmp_path / "tls")
    assert serving.ensure()
    assert chain_of(serving)[0].not_valid_after_utc == NOW + HOUR
    world.now += HOUR / 2
    assert not serving.ensure()


@pytest.mark.parametrize("content", [b"rubbish", make_ca("x").pem])
def test_unusable_key_is_told(world: World, tmp_path: Path, content: bytes) -> None:
    """A key file with something else in it is an error in words."""
    serving = serve(world, tmp_path / "tls")
    write_files(tmp_path / "tls", {"serving-key.pem": content})
    with pytest.raises(ConfigurationError, match="holds no key that was made here; remove"):
        serving.ensure()


def test_place_that_cannot_be_written_is_told(world: World, tmp_path: Path) -> None:
    """A path below a file says so in words."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="the serving certificate cannot be kept there"):
        serve(world, tmp_path / "file" / "tls").ensure()


async def test_watch_renews(world: World, tmp_path: Path) -> None:
    """While the server runs, it is renewed when its time has come."""
    serving = serve(world, tmp_path / "tls")
    serving.ensure()
    before = serving.certificate_file.read_bytes()
    task = asyncio.create_task(serving.watch(interval_s=0.01))
    world.now += 13 * HOUR
    async with asyncio.timeout(10):
        while before == serving.certificate_file.read_bytes():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert chain_of(serving)[0].not_valid_after_utc == world.now + timedelta(days=1)
