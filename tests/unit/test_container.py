"""What a worker makes of the limits of its container: how many children it has, and when it warns of their memory."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from claimwork.commands import work
from claimwork.container import memory_bytes, usable_slots
from claimwork.policy import is_little_memory


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with eight cores, all of which this process may use."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def cgroup(directory: Path, files: dict[str, str]) -> str:
    """A cgroup with these files."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return str(directory)


@pytest.mark.parametrize(
    ("files", "slots"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "what is this"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 8),
    ],
)
def test_a_container_with_a_limit_has_no_more_children_than_cores(
    tmp_path: Path, files: dict[str, str], slots: int
) -> None:
    """By the limit of cgroups v2 or v1, rounded up; one at least; never more than there are cores."""
    assert usable_slots(cgroup(tmp_path, files)) == slots


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, math.inf),
        ({"memory.max": "max\n"}, math.inf),
        ({"memory.max": "536870912\n"}, 512 << 20),
        ({"memory.max": "what is this"}, math.inf),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 512 << 20),
    ],
)
def test_a_container_knows_its_limit_of_memory(tmp_path: Path, files: dict[str, str], limit: float) -> None:
    """By cgroups v2 or v1."""
    assert memory_bytes(cgroup(tmp_path, files)) == limit


@pytest.mark.parametrize(
    ("limit", "slots", "little"),
    [
        (512 << 20, 8, True),
        (512 << 20, 5, False),
        (64 << 20, 1, False),
        (1 << 63, 64, False),
        (math.inf, 64, False),
    ],
)
def test_who_has_little_memory_for_its_slots(limit: float, slots: int, little: bool) -> None:
    """A hundred megabytes for each; a single one cannot have fewer slots."""
    assert is_little_memory(limit, slots) is little


def test_a_worker_with_little_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how much there is, and what to do about it."""
    monkeypatch.setattr(work, "memory_bytes", lambda: 512 << 20)

    assert work._memory_warning(8).startswith("8 slots share 512 MB of memory: ")
    assert work._memory_warning(4) == ""
