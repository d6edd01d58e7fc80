"""A file that others change is seen in every way in which they do."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from meshsigner.agent.files import follow
from tests.fakes.authority import KubernetesMount
from tests.wire.harness import until


@asynccontextmanager
async def _following(path: Path) -> AsyncIterator[list[bytes | None]]:
    """Collect what is handed over, for the time of a test."""
    seen: list[bytes | None] = []
    task = asyncio.create_task(follow(path, seen.append, poll_s=0.01))
    await until(lambda: bool(seen))
    try:
        yield seen
    finally:
        task.cancel()


async def test_content_is_handed_over_at_once_and_at_each_change(tmp_path: Path) -> None:
    """Written in place, replaced, taken away and put back: each is told once."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    async with _following(path) as seen:
        path.write_bytes(b"two!")
        await until(lambda: len(seen) == 2)
        (tmp_path / "new").write_bytes(b"three")
        (tmp_path / "new").replace(path)
        await until(lambda: len(seen) == 3)
        path.unlink()
        await until(lambda: len(seen) == 4)
        path.write_bytes(b"five")
        await until(lambda: len(seen) == 5)
    assert seen == [b"one", b"two!", b"three", None, b"five"]


async def test_missing_file_is_told_as_none(tmp_path: Path) -> None:
    """A file that is not there yet is nothing, and no error."""
    async with _following(tmp_path / "file") as seen:
        assert seen == [None]


async def test_swap_of_a_kubernetes_mount_is_seen(tmp_path: Path) -> None:
    """The kubelet turns a link two steps away; the content is new all the same."""
    mount = KubernetesMount(tmp_path / "mount")
    mount.swap({"ca-crl.pem": b"one"})
    async with _following(mount.directory / "ca-crl.pem") as seen:
        mount.swap({"ca-crl.pem": b"two"})
        await until(lambda: seen[-1] == b"two")


async def test_touched_file_is_read_again_and_nothing_else(tmp_path: Path) -> None:
    """Without a change nothing is handed over, however long one looks."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    async with _following(path) as seen:
        await asyncio.sleep(0.1)
        assert seen == [b"one"]
        os.utime(path, ns=(1, 1))
        await until(lambda: len(seen) == 2)


async def test_unreadable_file_is_told_as_none(tmp_path: Path) -> None:
    """A directory in a file's place holds no content."""
    path = tmp_path / "file"
    path.mkdir()
    async with _following(path) as seen:
        assert seen == [None]
