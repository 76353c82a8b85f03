"""Workers come and go while a job runs, by the commands of the README."""

from __future__ import annotations

import pytest

from tests.swarm.conftest import Site

pytestmark = pytest.mark.swarm


def test_a_stack_that_is_scaled_while_it_runs_runs_every_input_once(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 → 6 → 1 → 4 replicas and uneven inputs: nothing is charged, and what a replica has in hand when it goes may end."""
    site.put(*(f"{number:03}" for number in range(80)), seconds=0.4)
    site.put(*(f"long-{number}" for number in range(4)), seconds=3.0)
    site.deploy(REPLICAS="2")
    site.wait_for_results(6)

    site.scale(6)
    site.wait_for_results(30)
    site.scale(1)
    site.wait_for_containers(1)
    site.scale(4)
    site.finish()

    site.verify()
    site.verify_that_nobody_was_charged()
    taken_s, ideal_s = site.makespan_s()
    with capsys.disabled():
        print(f"\nmakespan {taken_s:.1f} s; {ideal_s:.1f} s at best with the replicas that were there", end=" ")
