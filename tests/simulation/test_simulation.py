"""Whole workers on a simulated NFS: many seeds, no violation; and the simulator itself can see what it should."""

from __future__ import annotations

import os

import pytest

from tests.simulation.simulator import Violation, draw_case, replay, simulate

SCHEDULES = int(os.environ.get("CLAIMWORK_SCHEDULES", "6000" if os.environ.get("CI") else "2000"))
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
