"""Fuzzes with atheris, guided by coverage of our own code.

    .fuzz/bin/python -m tests.fuzz.run [--seconds N] [TARGET ...]

One process a target, one after the other; the corpus is kept in .fuzz/corpus,
so that each run goes on where the last one stopped. An input that raises
something undocumented is written there too and ends the run with exit code 1.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

WORK = Path(__file__).parents[2] / ".fuzz"


def _fuzz_one(name: str, seconds: int) -> None:
    """Fuzz a target in this process; never returns."""
    import atheris  # noqa: PLC0415 - only in the fuzzer's own environment

    with atheris.instrument_imports(include=["meshsigner"]):
        from tests.fuzz.seeds import seeds  # noqa: PLC0415 - instrumented at import
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented at import

    corpus = WORK / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds()[name]:
        (corpus / sha256(seed).hexdigest()).write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=20000", "-timeout=5", "-rss_limit_mb=2048"]
    atheris.Setup([name, *options, f"-artifact_prefix={WORK}/{name}-", str(corpus)], TARGETS[name])
    atheris.Fuzz()


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - the children instrument it

    return sorted(TARGETS)


def main(arguments: Sequence[str]) -> int:
    """Fuzz the named targets, or all.

    Args:
        arguments: Command line without the program's name.

    Returns:
        0 when nothing undocumented was raised.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args(arguments)
    names = options.targets or _names()
    if options.here:
        _fuzz_one(names[0], options.seconds)
    failed = []
    for name in names:
        command = [sys.executable, "-m", "tests.fuzz.run", "--here", "--seconds"]
        if subprocess.run([*command, str(options.seconds), name], check=False).returncode:
            failed.append(name)
    print(f"{len(names) - len(failed)} targets passed, failed: {failed or 'none'}")  # noqa: T201
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
