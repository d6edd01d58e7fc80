"""Runs the conformance tests in two shifts at once: most of them wait for foreign servers.

    python -m tests.conformance.shifts [--own] [pytest's own arguments]

With --own it is the project's own tests instead, those that need nothing else: tests/wire beside
the others.

The first shift is shown as it goes, the second when it has ended; the last line sums them up. A
folder that is in no list belongs to the first shift, so that no test is forgotten.

Two shifts on two cores disturb each other, and some tests hold foreign servers to seconds. So what
failed is tried once more, alone, and both results are told: only what fails alone is a failure.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECOND = ("loads", "openbao", "postgres", "sds", "softhsm")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)")
_CLOSING = re.compile(r"^=*\s*\d+ (?:passed|failed|error|skipped|deselected).* in [0-9.]+s")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::\S+)", re.MULTILINE)
_NO_TESTS = 5
_FEW = 12  # more than these are no disturbance


def commands(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what each shift runs.

    Args:
        arguments: For pytest, in both; `--own` chooses the project's own tests.

    Raises:
        FileNotFoundError: A folder of the second shift is not there.
    """
    rest = [argument for argument in arguments if argument != "--own"]
    if len(rest) < len(arguments):
        pytest = [sys.executable, "-m", "pytest", *rest]
        return [*pytest, "--ignore=tests/wire"], [*pytest, *_cache("second-own"), "tests/wire"]
    folders = [(HERE / name).relative_to(ROOT) for name in SECOND]
    for folder in folders:
        if not (ROOT / folder).is_dir():
            raise FileNotFoundError(folder)
    pytest = [sys.executable, "-m", "pytest", "-c", "tests/conformance/pytest.ini", "--rootdir=."]
    pytest += rest
    first = [*pytest, *(f"--ignore={folder}" for folder in folders), "tests/conformance"]
    return first, [*pytest, *_cache("second-shift"), *map(str, folders)]


def _cache(name: str) -> list[str]:
    return ["-o", f"cache_dir=.pytest_cache/{name}"]


def closing(output: str) -> Counter[str]:
    """Return the counts of pytest's closing line; none when it did not come so far."""
    lines = [line for line in output.splitlines() if _CLOSING.match(line)]
    return Counter({word: int(count) for count, word in _COUNT.findall(lines[-1])} if lines else {})


def failures(output: str) -> list[str]:
    """Return the tests that pytest's summary names as failed, each once.

    Args:
        output: All that pytest said, with `-ra`.
    """
    return list(dict.fromkeys(_FAILED.findall(output)))


def again(tests: list[str], arguments: list[str]) -> int:
    """Run some tests alone, and tell what came of it."""
    sys.stdout.write(f"\n--- alone, once more: {', '.join(tests)} ---\n")
    sys.stdout.flush()
    first, _ = commands(arguments)
    whole = [part for part in first if part == "tests/conformance" or part.startswith("--ignore=")]
    pytest = [part for part in first if part not in whole]
    return subprocess.run([*pytest, *tests], cwd=ROOT, check=False).returncode


def main() -> int:
    """Run both shifts, and what failed once more alone."""
    started = time.monotonic()
    output, told, statuses = _both(sys.argv[1:])
    sys.stdout.write(f"\n--- the second shift ---\n{told}\n")
    counts, failed = closing(output) + closing(told), failures(output + told)
    status = next((status for status in statuses if status not in {0, _NO_TESTS}), 0)
    if status == 1 and 0 < len(failed) <= _FEW:
        status = again(failed, sys.argv[1:])
        if status == 0:
            counts = Counter(passed=counts["passed"] + len(failed))
            sys.stdout.write(f"{len(failed)} failed beside the other shift and pass alone\n")
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    sys.stdout.write(f"{words or 'no tests'} in {time.monotonic() - started:.2f}s, in two shifts\n")
    return status


def _both(arguments: list[str]) -> tuple[str, str, list[int]]:
    """Run both shifts; return what each said, and their statuses."""
    first, second = commands(arguments)
    with tempfile.TemporaryFile("w+") as log:
        beside = subprocess.Popen(
            second, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            shown = subprocess.Popen(first, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            output = ""
            for line in shown.stdout or ():
                output += line
                sys.stdout.write(line)
                sys.stdout.flush()
            statuses = [shown.wait(), beside.wait()]
        finally:
            beside.terminate()
            beside.wait()
        log.seek(0)
        return output, log.read(), statuses


if __name__ == "__main__":
    raise SystemExit(main())
