"""How many CPUs this process may use, which is not how many the machine has.

A container is bound by its CPU set and by a quota; of a quota of 1.5 CPUs two
workers make better use than one.

Source: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max), cgroup-v1
sched-bwc (cpu.cfs_quota_us).
"""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def available_cpus(cgroups: Path = CGROUPS) -> int:
    """Return the number of CPUs, at least 1.

    Args:
        cgroups: Where the process's own control group is shown.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroups)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """Return the CPUs that a quota leaves, None when there is none."""
    for quota, period in (_version_2(cgroups), _version_1(cgroups)):
        if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def _version_2(cgroups: Path) -> tuple[str, str]:
    quota, _, period = _read(cgroups / "cpu.max").partition(" ")
    return quota, period


def _version_1(cgroups: Path) -> tuple[str, str]:
    return _read(cgroups / "cpu/cpu.cfs_quota_us"), _read(cgroups / "cpu/cpu.cfs_period_us")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
