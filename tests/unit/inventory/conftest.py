"""Stores for the tests of the inventory, and other processes and disks to try them on."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshsigner.inventory.reading import InventoryReader
from meshsigner.inventory.sqlite import SqliteInventory

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 60


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A path where no file is yet."""
    return tmp_path / "inventory.db"


@pytest.fixture
def opened(database: Path) -> Iterator[Callable[..., SqliteInventory]]:
    """Make inventories on `database`, closed at the end."""
    made: list[SqliteInventory] = []

    def make(**settings: Any) -> SqliteInventory:
        made.append(SqliteInventory(database, **settings))
        return made[-1]

    yield make
    for inventory in made:
        inventory.close()


@pytest.fixture
def inventory(opened: Callable[..., SqliteInventory]) -> SqliteInventory:
    """An inventory with its defaults."""
    return opened()


@pytest.fixture
def reader(database: Path, inventory: SqliteInventory) -> Iterator[InventoryReader]:
    """A reader beside `inventory`."""
    inventory.probe()
    with InventoryReader(database) as reader:
        yield reader


def _run(command: list[str], *arguments: object) -> str:
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_code() -> Callable[..., str]:
    """Run Python code in a process of its own, to its end; return what it prints."""

    def run(code: str, *arguments: object) -> str:
        return _run([sys.executable, "-c", code], *arguments)

    return run


@pytest.fixture
def start_code() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python code in a process of its own, killed at the end at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


@pytest.fixture(scope="session")
def own_mounts() -> list[str]:
    """The command in front of one that mounts what nobody else sees."""
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "-m"]
    trial = [*command, "mount", "-t", "tmpfs", "-o", "size=64k", "trial", "/mnt"]
    if (
        shutil.which("unshare")
        and subprocess.run(trial, capture_output=True, check=False).returncode == 0
    ):
        return command
    reason = "no disk can be mounted here: run as root or allow user namespaces (Linux, util-linux)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def run_read_only(own_mounts: list[str]) -> Callable[..., str]:
    """Run Python code where a directory is mounted read-only, for root too."""

    def run(directory: Path, code: str, *arguments: object) -> str:
        script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
        command = [*own_mounts, "sh", "-c", script, "sh", str(directory)]
        return _run([*command, sys.executable, "-c", code], *arguments)

    return run


@pytest.fixture
def run_on_small_disk(own_mounts: list[str]) -> Callable[..., str]:
    """Run Python code where a directory is a file system of 2 MiB."""

    def run(directory: Path, code: str, *arguments: object) -> str:
        script = 'mount -t tmpfs -o size=2m small "$1" && shift && exec "$@"'
        command = [*own_mounts, "sh", "-c", script, "sh", str(directory)]
        return _run([*command, sys.executable, "-c", code], *arguments)

    return run
