"""What claiming costs where many workers claim; that it is right, tests/protocol/ shows."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from claimwork.claims import Claims
from claimwork.names import Ticket, map_ticket
from claimwork.policy import SHARD_TICKETS
from claimwork.results import Stage
from claimwork.testing import HookedFs, ManualClock
from claimwork.ticket_store import RenameStore
from tests.conftest import memory_tree


class Noted(HookedFs):
    """Counts listings of the shard."""

    listings = 0

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self.listings += op == "names" and args[0].endswith("/ready/000000")


@pytest.mark.parametrize(
    ("tickets", "lost", "listings"), [(20, 1, 2), (2 * SHARD_TICKETS, 1, 1), (2 * SHARD_TICKETS, 2, 2)]
)
def test_a_long_listing_outlives_one_lost_race(tickets: int, lost: int, listings: int) -> None:
    """Thousands of names are dozens of round trips, and one race lost says little of the others; two in a row do."""
    (server, layout), me = memory_tree(), f"{1:032x}"
    for directory in (layout.stage_of(me), layout.work_of(me), f"{layout.ready}/000000"):
        server.mkdir(directory)
    all_of_them = [map_ticket(0, 9 if nth <= lost else 5, 0, nth, nth + 1, 20) for nth in range(tickets)]
    for ticket in all_of_them:
        server.stage(layout.ready_ticket(ticket), b"")
    fs = Noted(server)
    claims = Claims(fs, layout, RenameStore(fs, layout, me, Stage(fs, layout, me, "w")), ManualClock(), Random(0))
    first = claims.next(lambda _: True)
    assert first is not None
    heavy = [ticket for ticket in all_of_them[: lost + 1] if ticket != first]
    for ticket in heavy:  # somebody else is faster
        server.unlink(layout.ready_ticket(ticket))

    found = claims.next(lambda _: True)

    assert isinstance(found, Ticket)
    assert (found.weight, claims.lost_races, fs.listings) == (5, lost, listings)
