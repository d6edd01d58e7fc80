"""A worker never outlives its supervisor: each guard alone sees to it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A parent that starts a child with one guard, says the child's process id, and lives on.
PARENT = """
import os, subprocess, sys, time
reading, writing = os.pipe()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), str(reading)],
                         pass_fds=[reading])
os.close(reading)
print(child.pid, flush=True)
time.sleep(60)
"""
BY_KERNEL = """
import sys, time
from meshsigner.workers.guard import end_with_parent
end_with_parent(int(sys.argv[1]))
print("guarded", flush=True)
time.sleep(60)
"""
BY_PIPE = """
import sys, time
from meshsigner.workers.guard import end_with_pipe
end_with_pipe(int(sys.argv[2]))
print("guarded", flush=True)
{busy}
time.sleep(60)
"""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _ended(pid: int, timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while _is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not _is_alive(pid)


@pytest.mark.parametrize(
    "child",
    [
        pytest.param(BY_KERNEL, id="kernel"),
        pytest.param(BY_PIPE.format(busy=""), id="pipe"),
        pytest.param(BY_PIPE.format(busy="while True: pass"), id="pipe, busy"),
    ],
)
def test_child_ends_with_its_parent(child: str) -> None:
    """After kill -9 of the parent the child is gone, whatever it was doing."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        (pid,) = (int(word) for word in said - {"guarded"})
        assert _is_alive(pid)
        parent.kill()
        parent.wait()
        assert _ended(pid)


def test_child_whose_parent_has_gone_already() -> None:
    """A worker whose supervisor died before the guard stood ends at once."""
    done = subprocess.run(
        [sys.executable, "-c", BY_KERNEL, "1"], check=False, timeout=30, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    assert b"guarded" not in done.stdout
