"""Missing: what two looks in a row find in no place is offered again, by few of those that are idle."""

from __future__ import annotations

from random import Random

from claimwork import policy
from claimwork.claims import Claims
from claimwork.coverage import Coverage
from claimwork.missing import Missing
from claimwork.names import map_ticket, plan_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import Close, Input, Job, Segment
from claimwork.results import Stage
from claimwork.story import Story
from claimwork.testing import ManualClock
from claimwork.ticket_store import RenameStore
from tests.conftest import memory_tree


class World:
    """A plan of four inputs in two tickets, which nobody has offered, and one idle worker."""

    def __init__(self, kind: str = "nfs4") -> None:
        self.server, layout = memory_tree(kind)
        me = f"{1:032x}"
        for directory in (layout.stage_of(me), layout.work_of(me)):
            self.server.mkdir(directory)
        self.server.stage(layout.live_of(me), b"")
        stage = Stage(self.server, layout, me, "w")
        log, self.clock, rng = PlanLog(self.server, layout), ManualClock(), Random(0)
        log.append(0, Segment([Input(str(n), 1) for n in range(4)], [(0, 2, 2, 1, 0), (2, 4, 2, 1, 0)]), stage)
        log.append(1, Close(1, None, [(0, 4, 4)]), stage)
        self.store = RenameStore(self.server, layout, me, stage)
        self.claims = Claims(self.server, layout, self.store, self.clock, rng)
        self.coverage = Coverage(self.server, layout, log)
        job = Job(id="j", task="t")
        self.missing = Missing(self.server, job, self.claims, self.coverage, self.clock, rng, Story())

    def look(self) -> list[tuple[int, int]]:
        """Look once; the ranges that wait then."""
        self.missing.look(self.coverage.state())
        return sorted((ticket.lo, ticket.hi) for ticket in self.claims.ready())

    def turns(self, peers: int, periods: int) -> int:
        """How often this worker takes its turn in so many periods."""
        found = 0
        for _ in range(periods):
            self.clock.advance(policy.MISSING_NETWORK_S)
            found += self.missing.takes_turn(peers, sure=False)
        return found


def test_what_is_missing_twice_is_offered() -> None:
    """A single look may miss what is on its way."""
    world = World()

    assert world.look() == []
    assert world.look() == [(0, 2), (2, 4)]


def test_what_came_meanwhile_is_not_offered() -> None:
    """Only what both looks miss."""
    world = World()
    assert world.look() == []
    world.store.offer(map_ticket(0, 1, 0, 0, 2, 2))

    assert world.look() == [(0, 2), (2, 4)]
    assert sorted(ticket.attempt for ticket in world.claims.ready()) == [1, 2]


def test_nothing_is_offered_beside_a_planner() -> None:
    """It has yet to offer its tickets."""
    world = World()
    world.store.offer(plan_ticket("1" * 16))

    assert world.look() == world.look()
    assert [ticket.attempt for ticket in world.claims.ready()] == [1]


def test_each_of_many_looks_in_its_turn() -> None:
    """On a network mount one of them does, on average; one that is alone does each time."""
    assert World().turns(peers=0, periods=9) == 9
    assert 5 < World().turns(peers=9, periods=100) < 25


def test_who_is_passed_over_for_long_is_drawn() -> None:
    """All others may be busy for hours: not only once in a thousand periods, then."""
    assert World().turns(peers=999, periods=1000) > 5


def test_no_turn_before_it_is_time() -> None:
    """However sure a worker is."""
    world = World()
    assert not world.missing.takes_turn(0, sure=True)
    world.clock.advance(policy.MISSING_NETWORK_S)
    assert world.missing.takes_turn(999, sure=True)
    assert not world.missing.takes_turn(999, sure=True)


def test_who_found_something_missing_looks_once_more() -> None:
    """Otherwise the next one that is drawn would begin anew."""
    world = World()
    world.look()
    world.clock.advance(policy.MISSING_NETWORK_S)

    assert world.missing.takes_turn(10**9, sure=False)


def test_on_a_local_mount_everybody_looks() -> None:
    """It costs no round trips there."""
    world = World("ext4")
    world.clock.advance(policy.MISSING_AFTER_S)

    assert world.missing.takes_turn(999, sure=False)
