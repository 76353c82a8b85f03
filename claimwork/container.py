"""What the container of this process may use, by its cgroup: cores for children, and memory that they share."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = "/sys/fs/cgroup"


def usable_slots(cgroup: str = CGROUP) -> int:
    """Cores that this process may use, by its affinity and by the limit of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(cgroup))))


def memory_bytes(cgroup: str = CGROUP) -> float:
    """The memory that a container is limited to (`docker run --memory`); inf: any."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroups v2, v1, where no limit is a huge one
        try:
            return int(Path(cgroup, name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue  # there is none here
    return math.inf


def _quota(cgroup: str) -> float:
    """The cores that a container is limited to (`docker run --cpus`), which do not show in its affinity; inf: any."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroups v2, v1
        try:
            quota, period = " ".join(Path(cgroup, each).read_text(encoding="ascii") for each in names).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # there is none here
    return math.inf
