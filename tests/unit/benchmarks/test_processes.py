"""Whether the books on CPU and memory are right."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.scenarios.processes import cpu_time, family, resident_bytes, started

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint('burnt', flush=True)\ninput()"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"


def test_cost_of_a_family_is_counted() -> None:
    """CPU time and memory of a grandchild count for the process that started it all."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        used = cpu_time(parent.pid)
        assert len(family(parent.pid)) == 2
        assert len(resident_bytes(parent.pid)) == 2
        assert used.total_s >= 0.3
        assert used.user_s + used.system_s == pytest.approx(used.total_s, abs=0.05)
        parent.communicate(b"\n")


def test_start_is_the_kernels_word_for_it() -> None:
    """Who started later has the greater number, whatever the ids; it counts from the machine's."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started(child.pid) / os.sysconf(
            "SC_CLK_TCK"
        )
        assert started(1) < started(os.getpid()) <= started(child.pid)
        assert -0.1 < age_s < 30
        child.communicate(b"\n")
