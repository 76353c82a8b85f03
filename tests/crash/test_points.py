"""One fault at every mutating call of a small job: what each step leaves behind, the next worker can go on from."""

from __future__ import annotations

import pytest

from tests.crash.small_job import IN_PARTS, INPUTS, SmallJob, clean_run
from tests.simulation.simulator import Violation

FAULTS = {
    "before": "the process dies just before the call",
    "after": "the process dies just after the call",
    "all before": "all processes die just before the call",
    "all after": "all processes die just after the call",
    "reply retransmitted": "the reply is lost, and the repeated request answered as a server without reply cache does",
    "reply EIO": "the reply is lost, and the call answered with EIO",
    "torn 0": "the process dies in a write that leaves nothing",
    "torn 60": "the process dies in the middle of a write",
    "late 100": "the process dies, and its call is executed when peers have buried it",
    "late end": "the process dies, and its call is executed when the job is complete",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("claims", ["rename", "marker"])
@pytest.mark.parametrize("split", [False, True], ids=["whole", "in parts"])
def test_a_fault_at_every_call(claims: str, fault: str, *, split: bool) -> None:
    """Wherever it strikes, the job completes, each input has one whole outcome, and the check finds nothing."""
    seed, calls = clean_run(claims, split=split)
    failures = []
    struck = 0
    for at, op in enumerate(calls):
        if fault.startswith("torn") and op != "stage":
            continue
        world = SmallJob(claims, seed, at, fault, IN_PARTS if split else INPUTS, split=split)
        try:
            world.play()
        except (Violation, Exception) as violation:
            failures.append(f"call {at}, {world.struck}: {fault}: {type(violation).__name__}: {violation}")
        finally:
            world.close()
        struck += bool(world.struck)

    assert not failures, "\n".join(failures)
    assert struck == (calls.count("stage") if fault.startswith("torn") else len(calls))
