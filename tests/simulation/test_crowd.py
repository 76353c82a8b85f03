"""What does not grow with the number of workers; scripts/bench crowd has the figures."""

from __future__ import annotations

import pytest

from claimwork.names import Kind, tickets_among
from tests.bench.crowd_workers import simulate
from tests.bench.crowd_world import Crowd, World

WORKERS = 24


def test_idle_workers_do_not_each_list_what_every_other_holds() -> None:
    """A thousand of them would cost a million listings each time; a few look, for all."""
    world = simulate(Crowd(WORKERS, 60, input_s=0.5, idle_s=300.0), seed=1)

    watched = world.marks["idle ends"].trips - world.marks["idle"].trips
    listings = sum(count for (_, area, operation), count in watched.items() if (area, operation) == ("work", "names"))
    rounds = 300.0 / 30.0
    assert 0 < listings < 6 * WORKERS * rounds  # with two round trips each; all of them would be 24 * 24 * 10 at least


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_still_finds_a_ticket_that_was_lost(seed: int) -> None:
    """It is enough that a few look."""
    lost: list[str] = []

    def lose(world: World) -> None:
        for shard in world.server.names(world.layout.ready):
            tickets = tickets_among(world.server.names(f"{world.layout.ready}/{shard}"))
            if not lost and tickets and tickets[0].kind is Kind.MAP:
                lost.append(f"{world.layout.ready}/{shard}/{tickets[0].name}")
                world.server.unlink(lost[0])

    world = simulate(Crowd(WORKERS, 60, input_s=0.5), seed, lose)

    assert lost
    assert world.settled == 60
