"""Tests of following a CA directory: good changes are taken, bad ones change nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from meshsigner.errors import ConfigurationError
from meshsigner.trust import IssuerDirectory
from meshsigner.trust.directory import CaFiles
from meshsigner.trust.succession import Roots
from meshsigner.trust.watch import Events
from tests.fakes.authority import (
    NOW,
    Ca,
    KubernetesMount,
    Shape,
    cacerts,
    make_ca,
    write_files,
)

ROOT = make_ca("root")
ONE = make_ca("one", issuer=ROOT)
TWO = make_ca("two", issuer=ROOT)
WAIT_S = 10.0  # bound of every wait here; a change is seen within a fraction of a second


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Return the set time."""
        return self.now


def files_of(issuer: Ca, *roots: Ca) -> dict[str, bytes]:
    """Return a good directory's files."""
    return cacerts(issuer, chain=[issuer], roots=roots or (ROOT,))


def follow(directory: Path, clock: Clock | None = None, poll_s: float = 0.2) -> IssuerDirectory:
    """Follow a directory, with a short poll."""
    return IssuerDirectory(directory, clock=clock or Clock(), poll_s=poll_s)


@asynccontextmanager
async def watching(followed: IssuerDirectory) -> AsyncIterator[None]:
    """Run the watcher for a while."""
    task = asyncio.create_task(followed.watch())
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; fail when it does not come about."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.02)


def signs(followed: IssuerDirectory) -> str:
    """Name the CA in use."""
    return followed.current.issuer.certificate.subject.rfc4514_string()


def is_replaced(followed: IssuerDirectory, before: CaFiles) -> bool:
    """Tell whether another CA is in use."""
    return followed.current is not before


def test_bad_directory_is_no_beginning(tmp_path: Path) -> None:
    """Without a good CA to begin with there is no issuer; all problems are told."""
    with pytest.raises(ConfigurationError, match="holds no CA"):
        follow(write_files(tmp_path / "ca", {}))


@pytest.mark.parametrize("poll_s", [0.2, 60.0], ids=["poll", "events"])
async def test_new_files_are_taken(tmp_path: Path, poll_s: float) -> None:
    """Files that are written over each other become the next generation once all is good."""
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory, poll_s=poll_s)
    before = followed.current
    async with watching(followed):
        write_files(directory, files_of(TWO))
        await until(lambda: followed.current is not before)
    assert signs(followed) == "CN=two"
    assert followed.current.issuer.generation == 2


async def test_kubernetes_swap_is_taken(tmp_path: Path) -> None:
    """A `..data` swap of the kubelet is one change, and each one is seen."""
    mount = KubernetesMount(tmp_path / "cacerts")
    followed = follow(mount.swap(files_of(ONE)), poll_s=60.0)
    async with watching(followed):
        for issuer in (TWO, ONE, TWO):
            before = followed.current
            mount.swap(files_of(issuer))
            await until(partial(is_replaced, followed, before))
            assert issuer.certificate == followed.current.issuer.certificate
    assert followed.current.issuer.generation == 4


async def test_replaced_directory_is_taken(tmp_path: Path) -> None:
    """A directory that is moved away and replaced by another is followed all the same."""
    clock = Clock()
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory, clock)
    async with watching(followed):
        directory.rename(tmp_path / "old")
        await until(lambda: "cannot be listed" in followed.health(NOW).detail)
        write_files(tmp_path / "new", files_of(TWO)).rename(directory)
        clock.now += timedelta(minutes=2)
        await until(lambda: signs(followed) == "CN=two")
        before = followed.current
        write_files(directory, files_of(ONE))
        await until(lambda: followed.current is not before)
    assert signs(followed) == "CN=one"


async def test_half_written_directory_changes_nothing(tmp_path: Path) -> None:
    """Between the first and the last file of a change the old CA signs on."""
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory)
    before = followed.current
    new = files_of(TWO)
    async with watching(followed):
        (directory / "ca-cert.pem").write_bytes(new["ca-cert.pem"][:300])
        await until(lambda: "cut PEM block" in followed.health(NOW).detail)
        assert followed.current is before
        (directory / "ca-cert.pem").write_bytes(new["ca-cert.pem"])
        await until(lambda: "is no key of" in followed.health(NOW).detail)
        assert followed.current is before
        write_files(directory, new)
        await until(lambda: followed.current is not before)
    assert followed.health(NOW).ready
    assert "refused" not in followed.health(NOW).detail


async def test_bad_change_is_loud_once_and_shown(tmp_path: Path) -> None:
    """A bad state is one error line with all problems, and stays in the health's text."""
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory)
    before = followed.current
    with capture_logs() as lines:
        (directory / "ca-key.pem").write_bytes(TWO.key_pem())
        assert not await followed.look()
        os.utime(directory / "ca-key.pem")
        assert not await followed.look()
    assert followed.current is before
    (line,) = lines
    assert line["log_level"] == "error"
    assert line["event"] == "CA directory refused, the issuer in use is kept"
    assert "is no key of 'CN=one'" in line["problems"][0]
    health = followed.health(NOW)
    assert health.ready
    assert "the directory as it is now is refused" in health.detail


async def test_touched_files_replace_nothing(tmp_path: Path) -> None:
    """The same CA written again keeps its object: orders in flight are not lost."""
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory)
    before = followed.current
    write_files(directory, files_of(ONE))
    assert not await followed.look()
    assert followed.current is before


async def test_refused_state_is_tried_again_by_time(tmp_path: Path) -> None:
    """A CA that is not valid yet is taken when its time has come, without a change of files."""
    clock = Clock()
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory, clock)
    later = make_ca("later", issuer=ROOT, shape=Shape(not_before=NOW + timedelta(minutes=3)))
    write_files(directory, files_of(later))
    assert not await followed.look()
    assert "is not valid before" in followed.health(NOW).detail
    clock.now += timedelta(minutes=4)
    assert await followed.look()
    assert signs(followed) == "CN=later"


async def test_statement_61_change_that_comes_too_early_is_refused(tmp_path: Path) -> None:
    """Whoever knows how far the cluster is has a say, too; later the same change is taken."""
    directory, early = tmp_path / "ca", ["the cluster lacks its root"]
    write_files(directory, files_of(ONE))
    followed = follow(directory)
    seen: list[tuple[int, int]] = []

    def faults(before: Roots, after: Roots) -> list[str]:
        seen.append((len(before), len(after)))
        return early

    followed.also_refuse(faults)
    other = make_ca("another")
    write_files(directory, files_of(ONE, ROOT, other))
    assert not await followed.look()
    assert seen == [(1, 2)]
    assert "the cluster lacks its root" in followed.health(NOW).detail
    early.clear()
    write_files(directory, files_of(ONE, ROOT, other))
    assert await followed.look()


async def test_unannounced_root_is_refused(tmp_path: Path) -> None:
    """A CA under a root that no workload has is not taken while running."""
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory)
    new_root = make_ca("new root")
    write_files(directory, files_of(make_ca("new", issuer=new_root), new_root))
    assert not await followed.look()
    detail = followed.health(NOW).detail
    assert "its root 'CN=new root' was never announced" in detail
    assert "it drops the root 'CN=root'" in detail


async def test_root_changes_in_three_steps(tmp_path: Path) -> None:
    """Announce, switch, drop: each step of a root change is taken."""
    directory = write_files(tmp_path / "ca", files_of(ONE))
    followed = follow(directory)
    new_root = make_ca("new root")
    new = make_ca("new", issuer=new_root)
    for step in (files_of(ONE, ROOT, new_root), files_of(new, new_root, ROOT)):
        write_files(directory, step)
        assert await followed.look()
    write_files(directory, files_of(new, new_root))
    assert await followed.look()
    assert (new_root.certificate,) == followed.current.issuer.trust_bundle.certificates


async def test_end_is_warned_of_and_is_not_ready(tmp_path: Path) -> None:
    """The last fifth of a CA's life is in health and log; after its end it is not ready."""
    clock = Clock()
    issuer = make_ca("brief", issuer=ROOT, shape=Shape(not_after=NOW + timedelta(days=9)))
    followed = follow(write_files(tmp_path / "ca", files_of(issuer)), clock)
    assert "expires in" not in followed.health(NOW).detail
    clock.now = NOW + timedelta(days=8)
    with capture_logs() as lines:
        await followed.look()
        await followed.look()
    assert [line["event"] for line in lines] == ["issuer expires soon"]
    health = followed.health(clock.now)
    assert health.ready
    assert "expires in 24.0 hours, renew it" in health.detail
    health = followed.health(NOW + timedelta(days=9, seconds=1))
    assert not health.ready
    assert "expired at 2026-12-03 12:00:00Z" in health.detail


def test_loading_is_logged_and_told(tmp_path: Path) -> None:
    """The CA in use, its end and every remark on it are in the log; an observer gets it."""
    taken: list[CaFiles] = []
    issuer = make_ca("mute", issuer=ROOT, shape=Shape(crl_sign=False))
    directory = write_files(tmp_path / "ca", files_of(issuer))
    with capture_logs() as lines:
        followed = IssuerDirectory(directory, clock=Clock(), taken=taken.append)
    assert [followed.current] == taken
    loaded, remark = lines
    assert loaded["event"] == "issuer loaded"
    assert loaded["subject"] == "'CN=mute'"
    assert loaded["expires"] == "2027-11-24T12:00:00+00:00"
    assert "no cRLSign" in remark["remark"]


async def test_upkeep_runs_before_each_look(tmp_path: Path) -> None:
    """What keeps the directory fresh is called first, and its failure is a refused state."""
    directory = tmp_path / "ca"
    issuers = iter((ONE, TWO))

    def upkeep(now: datetime) -> None:
        assert now == NOW
        issuer = next(issuers, None)
        if issuer is None:
            raise ConfigurationError("no space left")
        write_files(directory, files_of(issuer))

    followed = IssuerDirectory(directory, clock=Clock(), upkeep=upkeep)
    assert signs(followed) == "CN=one"
    assert await followed.look()
    assert signs(followed) == "CN=two"
    assert not await followed.look()
    assert "no space left" in followed.health(NOW).detail


async def test_without_events_it_is_polled(tmp_path: Path) -> None:
    """Where no directory events can be had, that is said once, and changes are still seen."""
    directory = write_files(tmp_path / "ca", files_of(ONE))

    def no_watch_left(_: Path, __: float) -> Events:
        raise OSError(28, "No space left on device")

    followed = IssuerDirectory(directory, clock=Clock(), poll_s=0.05, events=no_watch_left)
    with capture_logs() as lines:
        async with watching(followed):
            write_files(directory, files_of(TWO))
            await until(lambda: signs(followed) == "CN=two")
            await asyncio.sleep(0.2)
    polled = [line for line in lines if line["event"].startswith("no directory events")]
    assert len(polled) == 1


def test_first_ca_follows_on_what_other_workers_announce(tmp_path: Path) -> None:
    """A worker that starts beside others takes no CA that would cut off their workloads."""
    other = make_ca("other root")
    directory = write_files(tmp_path / "ca", files_of(ONE))
    clock = Clock()
    followed = IssuerDirectory(directory, clock=clock, announced=[ROOT.certificate])
    assert signs(followed) == "CN=one"
    with pytest.raises(ConfigurationError, match="was never announced") as refused:
        IssuerDirectory(directory, clock=clock, announced=[other.certificate])
    assert all(str(directory) in problem for problem in refused.value.problems)
