"""Uses strace: reads a server's system calls, on what and when, or kills it at one of them.

Decides nothing about them; the tests do.
"""

import contextlib
import re
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# -D: the server stays the process that was started, so that it can be ended as usual.
# -yy: descriptors with their file or addresses. -s 0: no data, which could hold tokens.
OPTIONS = ("-D", "-f", "--seccomp-bpf", "-ttt", "-T", "-yy", "-s", "0")
DETACH_TIMEOUT_S = 5.0
WHOLE = re.compile(r"(\d+) +(\d+\.\d+) (\w+)\((.*)\) += (-?\d+).* <(\d+\.\d+)>")
UNFINISHED = re.compile(r"(\d+) +(\d+\.\d+) (\w+)\((.*) <unfinished \.\.\.>")
RESUMED = re.compile(r"(\d+) +(\d+\.\d+) <\.\.\. (\w+) resumed>(.*)\) += (-?\d+).* <(\d+\.\d+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Syscall:
    """One finished system call.

    Args:
        name: Its name.
        arguments: Its arguments as strace prints them, with the descriptor's file or addresses.
        result: What it returned.
        started: When it was entered, Unix time in seconds.
        ended: When it returned.
    """

    name: str
    arguments: str
    result: int
    started: float
    ended: float


def tracer(output: Path, names: Iterable[str]) -> list[str]:
    """Return the command that traces another one.

    Args:
        output: Where the trace goes.
        names: System calls to trace.
    """
    return ["strace", *OPTIONS, "-e", f"trace={','.join(names)}", "-o", str(output)]


@contextlib.contextmanager
def killing_at(pid: int, name: str, count: int) -> Iterator[None]:
    """Have a process killed by SIGKILL as one of its threads enters a system call so many times.

    Args:
        pid: Process to watch; calls before this block do not count.
        name: The system call.
        count: Which one kills.
    """
    inject = ("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={count}")
    with subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *inject, "-s", "0", "-o", "/dev/null"],
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stderr is not None
        said = watcher.stderr.readline()
        assert "attached" in said, said
        try:
            yield
        finally:
            _end(watcher)


def _end(watcher: "subprocess.Popen[str]") -> None:
    """End a tracer: it detaches if its process still lives.

    Now and then a tracer is not woken by the death of its process, and sleeps on; holding the dead
    process, it then has to be killed before that can be waited for.
    """
    watcher.send_signal(signal.SIGINT)
    try:
        watcher.wait(DETACH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        watcher.kill()


def parse(lines: Iterable[str]) -> Iterator[Syscall]:
    """Return the finished calls in the order in which they ended."""
    entered: dict[tuple[str, str], str] = {}
    for line in lines:
        if begun := UNFINISHED.fullmatch(line.rstrip("\n")):
            entered[begun[1], begun[3]] = begun[4]
        elif found := WHOLE.fullmatch(line.rstrip("\n")):
            yield _call(found[3], found[4], found[5], started=float(found[2]), took=float(found[6]))
        elif ended := RESUMED.fullmatch(line.rstrip("\n")):
            arguments = entered.pop((ended[1], ended[3])) + ended[4]
            took = float(ended[6])
            yield _call(ended[3], arguments, ended[5], started=float(ended[2]) - took, took=took)


def _call(name: str, arguments: str, result: str, *, started: float, took: float) -> Syscall:
    return Syscall(
        name=name, arguments=arguments, result=int(result), started=started, ended=started + took
    )
