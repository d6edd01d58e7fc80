"""Runs the tests against every mutant, and says which no test noticed.

    python -m tests.mutants.run MUTANTS.jsonl [--jobs N] [--only FILE]

Each mutant lives in a forked child whose import of that one module yields the
changed source; nothing on disk changes. A mutant is killed by a failing test,
an error at import, or its time. Survivors must be explained in explained.json,
and every explanation must still be needed: else the exit code is 1.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.suites import suite_of
from tests.vectors.make_csrs import all_cases

ROOT = Path(__file__).parents[2]
EXPLAINED = Path(__file__).parent / "explained.json"
TIME_S = 60.0
_POLL_S = 0.02
# Imported before the first fork, so that no child pays for them; nothing of ours is among them.
_PRELOADED = (
    *("aiohttp.web", "anyio.pytest_plugin", "asyncio", "cryptography.x509", "grpc.aio"),
    *("hypothesis.strategies", "joserfc.jwk", "prometheus_client", "pytest_asyncio", "structlog"),
)
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants", "-Wignore")
_SURVIVED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed line.

    Attributes:
        file: Path under src/meshsigner.
        row: Line of the change.
        definition: Function or class that it is in.
        operator: Cosmic-ray's name for the change.
        was: The line, stripped.
        now: The changed line, stripped.
        source: The whole changed module.
    """

    file: str
    row: int
    definition: str
    operator: str
    was: str
    now: str
    source: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Name the change in a way that survives moves of the line."""
        return self.file, self.definition, self.was, self.now

    @property
    def module(self) -> str:
        """Return the module's import name."""
        dotted = self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return f"meshsigner.{dotted}"


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports one module from a changed source, all others as usual."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self,
        fullname: str,
        _path: Sequence[str] | None,
        _target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        origin = str(ROOT / "src" / "meshsigner" / self._mutant.file)
        is_package = self._mutant.file.endswith("__init__.py")
        return importlib.util.spec_from_file_location(
            fullname,
            origin,
            loader=self,
            submodule_search_locations=[str(Path(origin).parent)] if is_package else None,
        )

    def get_source(self, _fullname: str) -> str:
        return self._mutant.source


def _mutants(path: Path, only: str) -> list[Mutant]:
    found = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        entry["now"] = entry.pop("is")
        found.append(Mutant(**entry))
    return [mutant for mutant in found if mutant.file.startswith(only)]


def _start(mutant: Mutant | None, suite: Sequence[str]) -> int:
    """Fork a child that runs a suite; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    os.setpgid(0, 0)
    code = 3
    try:
        if mutant is not None:
            sys.meta_path.insert(0, _Changed(mutant))
        code = int(pytest.main([*_OPTIONS, *suite]))
    finally:
        os._exit(code)


def _end(pid: int) -> None:
    """Kill a child and whatever it started, then wait for it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _outcomes(mutants: Sequence[Mutant], jobs: int) -> Iterator[tuple[Mutant, int]]:
    """Run all mutants, a few at a time; yield each with its exit code, -1 for its time."""
    waiting = list(reversed(mutants))
    running: dict[int, tuple[Mutant, float]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            running[_start(mutant, suite_of(mutant.file))] = mutant, time.monotonic() + TIME_S
        for pid, (mutant, until_s) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[pid]
                yield mutant, os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until_s:
                del running[pid]
                _end(pid)
                yield mutant, -1
        time.sleep(_POLL_S)


def _check_suites(mutants: Sequence[Mutant]) -> None:
    """Run every suite once without a change: it must pass, or nothing below means anything."""
    for suite in sorted({tuple(suite_of(mutant.file)) for mutant in mutants}):
        _, status = os.waitpid(_start(None, suite), 0)
        code = os.waitstatus_to_exitcode(status)
        if code:
            sys.exit(f"the tests fail without any mutant (exit {code}): pytest {' '.join(suite)}")


def _explanations() -> dict[tuple[str, str, str, str], str]:
    entries = json.loads(EXPLAINED.read_text())
    return {
        (entry["file"], entry["definition"], entry["was"], entry["now"]): entry["because"]
        for entry in entries
    }


def _survivors(mutants: Sequence[Mutant], jobs: int) -> list[Mutant]:
    survived = []
    for number, (mutant, code) in enumerate(_outcomes(mutants, jobs), 1):
        if code == _SURVIVED:
            survived.append(mutant)
            print(f"survived: {mutant.file}:{mutant.row} {mutant.operator}")  # noqa: T201
            print(f"    - {mutant.was}\n    + {mutant.now}", flush=True)  # noqa: T201
        if number % 50 == 0:
            print(f"{number} of {len(mutants)}", flush=True)  # noqa: T201
    return survived


def main(arguments: Sequence[str]) -> int:
    """Run, report, and compare with what is explained.

    Args:
        arguments: Command line without the program's name.

    Returns:
        0 when every survivor is explained and every explanation is needed.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run")
    parser.add_argument("mutants", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="")
    options = parser.parse_args(arguments)
    sys.dont_write_bytecode = True
    for name in _PRELOADED:
        importlib.import_module(name)
    all_cases()
    mutants = _mutants(options.mutants, options.only)
    _check_suites(mutants)
    survived = _survivors(mutants, options.jobs)
    explained = _explanations()
    relevant = {key for key in explained if key[0].startswith(options.only)}
    unexplained = [mutant for mutant in survived if mutant.key not in explained]
    stale = relevant - {mutant.key for mutant in survived}
    for mutant in unexplained:
        print(f"not explained: {json.dumps(mutant.key)}")  # noqa: T201
    for key in sorted(stale):
        print(f"explained, but killed or gone: {json.dumps(key)}")  # noqa: T201
    print(  # noqa: T201
        f"{len(mutants)} mutants, {len(mutants) - len(survived)} killed, "
        f"{len(survived) - len(unexplained)} explained, {len(unexplained)} not explained",
    )
    return bool(unexplained or stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
