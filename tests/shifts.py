"""Runs the tests in two shifts at once: many of them wait for servers.

    python -m tests.shifts own [pytest's own arguments]            # those that need nothing else
    python -m tests.shifts conformance [pytest's own arguments]    # those against foreign servers

The first shift is shown as it goes, the second when it has ended; the last line sums them up. What
the second does not have is the first's, so that no test is forgotten.

Two shifts on two cores disturb each other, and some tests hold servers to seconds. So what failed
is tried once more, alone, and both results are told: only what fails alone is a failure.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFORMANCE = "tests/conformance"
SECOND = {
    "own": ("tests/wire",),
    "conformance": tuple(
        f"{CONFORMANCE}/{name}" for name in ("loads", "openbao", "postgres", "sds", "softhsm")
    ),
}
_CHOICE = {
    "own": ([], []),
    "conformance": (["-c", f"{CONFORMANCE}/pytest.ini", "--rootdir=."], [CONFORMANCE]),
}
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)")
_CLOSING = re.compile(r"^=*\s*\d+ (?:passed|failed|error|skipped|deselected).* in [0-9.]+s")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+::\S+)", re.MULTILINE)
_TESTS_FAILED, _NO_TESTS = 1, 5  # pytest's exit codes; what is above 1 is no matter of tests
_FEW = 12  # more than these are no disturbance


def pytest_of(tests: str, arguments: list[str]) -> list[str]:
    """Return pytest as some tests want it, without any tests.

    Args:
        tests: `own` or `conformance`.
        arguments: For pytest.
    """
    return [sys.executable, "-m", "pytest", *_CHOICE[tests][0], *arguments]


def commands(tests: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what each shift runs.

    Args:
        tests: `own` or `conformance`.
        arguments: For pytest, in both.

    Raises:
        FileNotFoundError: A folder of the second shift is not there.
    """
    pytest, second = pytest_of(tests, arguments), SECOND[tests]
    for folder in second:
        if not (ROOT / folder).is_dir():
            raise FileNotFoundError(folder)
    first = [*pytest, *(f"--ignore={folder}" for folder in second), *_CHOICE[tests][1]]
    return first, [*pytest, "-o", f"cache_dir=.pytest_cache/second-{tests}", *second]


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


def main(tests: str, arguments: list[str]) -> int:
    """Run both shifts, and what failed once more alone.

    Args:
        tests: `own` or `conformance`.
        arguments: For pytest.
    """
    started = time.monotonic()
    output, told, statuses = _both(tests, arguments)
    sys.stdout.write(f"\n--- the second shift ---\n{told}\n")
    counts, failed = closing(output) + closing(told), failures(output + told)
    status = max(0 if status == _NO_TESTS else status for status in map(abs, statuses))
    if status == _TESTS_FAILED and 0 < len(failed) <= _FEW:
        sys.stdout.write(f"\n--- alone, once more: {', '.join(failed)} ---\n")
        sys.stdout.flush()
        alone = [*pytest_of(tests, arguments), *failed]
        status = subprocess.run(alone, cwd=ROOT, check=False).returncode
        if status == 0:
            counts = Counter(passed=counts["passed"] + len(failed))
            sys.stdout.write(f"{len(failed)} failed beside the other shift and pass alone\n")
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    sys.stdout.write(f"{words or 'no tests'} in {time.monotonic() - started:.2f}s, in two shifts\n")
    return status


def _both(tests: str, arguments: list[str]) -> tuple[str, str, list[int]]:
    """Run both shifts; return what each said, and their statuses."""
    first, second = commands(tests, arguments)
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
    raise SystemExit(main(sys.argv[1], sys.argv[2:]))
