"""Power loss at every mutating call of a small job: what was reported done stands, and the rest is done again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from claimwork.check import check
from claimwork.testing import ManualClock
from tests.crash.power import Disk
from tests.crash.reported import LIMIT_BYTES, what_is_amiss
from tests.crash.small_job import SmallJob
from tests.simulation.simulator import OUT, Host, Violation

INPUTS = ["ok0", "bad1", "ok2"]  # one that fails at each attempt, so that a report is settled as well


class PoweredJob(SmallJob):
    """The small job on one machine, whose power fails at mutating call *at*."""

    def __init__(self, claims: str, seed: int, at: int = -1, *, syncfs: bool = False) -> None:
        super().__init__(claims, seed, at, "all before", INPUTS)
        self.job = replace(self.job, patience_s=10.0, backoff_s=0.5)  # simulated seconds cost time as well
        self.disk = self.server = Disk(self.rng, syncfs=syncfs)
        self.disk.mkdir(OUT)
        self.disk.flush([OUT])
        self.hosts = [Host(self, 0)]

    def play_until_power_fails(self) -> None:
        """Two workers, until the fault strikes or both have ended."""
        self.start_worker()
        while not self.run(1) and self.server.inode(self.layout.job) is None:
            pass
        if not self.struck:
            self.start_worker()
            self._let("the workers")
        self.faults_left = 0

    def come_back(self, *, repair: bool) -> None:
        """What must hold as soon as the power is back, and then what a fresh worker makes of it."""
        self._look_at_what_is_left()
        if self.server.inode(self.layout.job) is None:
            self.job = replace(self.job, id=f"{self.rng.getrandbits(128):032x}")  # it starts over
        try:
            self.recover()
        except Violation:
            if not repair:
                raise
            for process in self.processes:
                process.fs.die()
            self.processes = []
            check(self.server, self.layout, repair=True, clock=ManualClock())
            self.recover()

    def _look_at_what_is_left(self) -> None:
        published, self.server.published = self.server.published, {}
        for path, (data, inode) in published.items():
            if self.server.inode(path) != (1, inode):
                continue  # never reported done, or the done record tells
            if self.server.read(path, LIMIT_BYTES) != data:
                raise Violation(f"{path} is torn")
            self.server.published[path] = (data, inode)
        for each in what_is_amiss(self.server, self.layout):
            raise Violation(each)


def empty(_data: bytes) -> bytes:
    """The size of the file never reached the disk."""
    return b""


def half(data: bytes) -> bytes:
    """Some of it did."""
    return data[: len(data) // 2]


Loss = tuple[
    str, float, Callable[[bytes], bytes]
]  # model, share of the unflushed changes that survives, their contents
ORDERED: list[Loss] = [("ordered", 0.0, empty), ("ordered", 1.0, empty), ("ordered", 0.5, half)]
INDEPENDENT: list[Loss] = [
    ("independent", 0.0, empty),
    ("independent", 0.7, empty),
    ("independent", 0.3, half),
    ("independent", 1.0, half),
]
IS_FULL = os.environ.get("CRASH_SWEEP") == "full"  # else each call is struck in two of these ways, in turn


def sweep(claims: str, losses: list[Loss], *, syncfs: bool, repair: bool) -> list[str]:
    """Lose power at every call, in each way; what went wrong."""
    clean = PoweredJob(claims, 3, syncfs=syncfs)
    clean.play_until_power_fails()
    clean.recover()
    failures = []
    for at in range(len(clean.mutations)):
        chosen = range(len(losses)) if IS_FULL else {at % len(losses), (at + 1) % len(losses)}
        for number in chosen:
            model, share, keep = losses[number]
            world = PoweredJob(claims, 3, at, syncfs=syncfs)
            try:
                world.play_until_power_fails()
                world.disk.lose_power(model, share, keep, Random(at * 31 + number))
                world.come_back(repair=repair)
            except (Violation, Exception) as violation:
                how = f"{share:.0%} of what was not flushed kept, contents {keep.__name__}"
                failures.append(f"call {at}, {world.struck}: {how}: {type(violation).__name__}: {violation}")
            finally:
                world.close()
    return failures


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_power_loss_on_a_disk_with_a_journal(claims: str) -> None:
    """What was reported done stands, no result is torn, and a fresh worker completes the job or starts it over."""
    failures = sweep(claims, ORDERED, syncfs=False, repair=False)

    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("claims", ["rename", "marker"])
def test_power_loss_on_a_disk_without_order(claims: str) -> None:
    """The same where any name may be lost for itself; it may take a `claimwork check --repair`."""
    failures = sweep(claims, INDEPENDENT, syncfs=False, repair=True)

    assert not failures, "\n".join(failures)
