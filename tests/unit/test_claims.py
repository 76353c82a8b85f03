"""What claiming costs where many workers claim; that it is right, tests/protocol/ shows."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from claimwork.claims import Claims
from claimwork.layout import Layout
from claimwork.names import Ticket, map_ticket
from claimwork.policy import PLENTY, SHARD_TICKETS
from claimwork.results import Stage
from claimwork.testing import HookedFs, ManualClock, MemoryServer
from claimwork.ticket_store import RenameStore
from tests.conftest import memory_tree


class Noted(HookedFs):
    """Counts listings of the shard."""

    listings = 0

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self.listings += op == "names" and args[0].endswith("/ready/000000")


def claims_of(tickets: list[Ticket]) -> tuple[MemoryServer, Layout, Noted, Claims]:
    """A worker's claims, and the tickets that wait for it."""
    (server, layout), me = memory_tree(), f"{1:032x}"
    for directory in (layout.stage_of(me), layout.work_of(me), f"{layout.ready}/000000"):
        server.mkdir(directory)
    for ticket in tickets:
        server.stage(layout.ready_ticket(ticket), b"")
    fs = Noted(server)
    claims = Claims(fs, layout, RenameStore(fs, layout, me, Stage(fs, layout, me, "w")), ManualClock(), Random(0))
    return server, layout, fs, claims


@pytest.mark.parametrize(
    ("tickets", "lost", "listings"), [(20, 1, 2), (2 * SHARD_TICKETS, 1, 1), (2 * SHARD_TICKETS, 2, 2)]
)
def test_a_long_listing_outlives_one_lost_race(tickets: int, lost: int, listings: int) -> None:
    """Thousands of names are dozens of round trips, and one race lost says little of the others; two in a row do."""
    all_of_them = [map_ticket(0, 9 if nth <= lost else 5, 0, nth, nth + 1, 20) for nth in range(tickets)]
    server, layout, fs, claims = claims_of(all_of_them)
    first = claims.next(lambda _: True)
    assert first is not None
    heavy = [ticket for ticket in all_of_them[: lost + 1] if ticket != first]
    for ticket in heavy:  # somebody else is faster
        server.unlink(layout.ready_ticket(ticket))

    found = claims.next(lambda _: True)

    assert isinstance(found, Ticket)
    assert (found.weight, claims.lost_races, fs.listings) == (5, lost, listings)


@pytest.mark.parametrize(
    ("tickets", "workers", "claimed", "many"),
    [
        (SHARD_TICKETS - 1, 1, 1, False),  # short listings cost nothing
        (SHARD_TICKETS + 2, 1, 1, True),
        (SHARD_TICKETS + 2, 1, 2, False),
        (100 * (PLENTY + 1) + 1, 100, 1, True),
        (100 * (PLENTY + 1), 100, 1, False),
        (100 * (PLENTY + 2), 100, 2, False),  # others have taken a hundred more meanwhile
    ],
)
def test_what_a_worker_has_taken_of_its_listing_others_have_as_well(
    tickets: int, workers: int, claimed: int, *, many: bool
) -> None:
    """So a listing that is long and old is no sign that there is work for all."""
    _, _, fs, claims = claims_of([map_ticket(0, 5, 0, nth, nth + 1, 20) for nth in range(tickets)])
    claims.workers = workers
    assert not claims.many_wait()
    for _ in range(claimed):
        assert claims.next(lambda _: True)

    assert claims.many_wait() is many
    assert fs.listings == 1
    claims.forget_listing()
    assert not claims.many_wait()
