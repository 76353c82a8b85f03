"""What does not grow with the number of workers; scripts/bench crowd has the figures."""

from __future__ import annotations

from typing import Any

import pytest

from claimwork.coverage import Coverage
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


def test_an_idle_worker_asks_for_no_more_than_its_budget() -> None:
    """Its own beats, those of one peer, a look for work now and then, and its share of looking for all."""
    world = simulate(Crowd(WORKERS, 60, input_s=0.5, idle_s=600.0), seed=1)

    watched = world.marks["idle ends"].trips - world.marks["idle"].trips
    idle = sum(count for (role, _, _), count in watched.items() if role == "idle")
    in_30_s = idle / (WORKERS - 1) / (600.0 / 30.0)
    assert (
        in_30_s <= 23.0
    )  # with fewer peers on its own host 20: to look at an OS lock costs requests, and for late inputs too


def test_who_waits_for_the_end_does_not_look_through_the_segments() -> None:
    """Each waiting worker would list each segment; who finishes something looks, and finds one open soon."""
    world = simulate(Crowd(WORKERS, 12_000, input_s=0.05), seed=1)

    segments = 12
    listed = sum(count for (role, area, _), count in world.trips.items() if (role, area) == ("idle", "done"))
    assert 0 < listed < WORKERS * segments / 2


def test_a_crowd_finishes_though_whoever_finished_last_did_not_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """It died just then, or was told to leave: one of those that look for all finds that all is done."""
    covers_entry = Coverage.covers_entry

    def never_looks(self: Coverage, entry: int, **_: Any) -> bool:
        return covers_entry(self, entry, look=False)

    monkeypatch.setattr(Coverage, "covers_entry", never_looks)
    world = simulate(Crowd(WORKERS, 60, input_s=0.5), seed=1)

    assert "reduce ended" in world.marks


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
