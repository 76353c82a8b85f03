"""Whole workers on a simulated NFS: many seeds, no violation; and the simulator itself can see what it should."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.simulator import Violation, draw_case, replay, simulate

SCHEDULES = int(os.environ.get("CLAIMWORK_SCHEDULES", "20000" if os.environ.get("CI") else "4000"))
CHUNKS = 40


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_schedule_violates_an_invariant(chunk: int) -> None:
    """Crashes, lost replies, pauses, stale caches, skewed clocks: each input ends once, and the job completes."""
    share = SCHEDULES // CHUNKS
    for seed in range(chunk * share, (chunk + 1) * share):
        try:
            simulate(draw_case(seed))
        except Violation as violation:
            pytest.fail(f"seed {seed}: {violation}; history: scripts/simulate --replay {seed}")


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same history, call for call, so that a violation can be looked at again."""
    assert replay(11) == replay(11)


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_seed_replays_in_another_process(hash_seed: str) -> None:
    """Nothing in a history follows from the order of a set, which differs from process to process."""
    program = "from tests.simulation.simulator import replay; print(*replay(11), *replay(12), sep='\\n')"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}

    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True)

    assert told.stdout.splitlines() == "\n".join([*replay(11), *replay(12)]).splitlines()
