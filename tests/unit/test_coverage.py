"""Coverage: done is positive evidence, and only what is in no place at all is missing."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from claimwork.claims import Claims
from claimwork.coverage import Coverage, JobState
from claimwork.names import Ticket, failure_name, map_ticket, part_ticket, reduce_ticket
from claimwork.parts import publish_part
from claimwork.plan_log import PlanLog
from claimwork.records import Close, Input, Job, Outcome, Part, Segment
from claimwork.results import Stage, write_done
from claimwork.testing import HookedFs, ManualClock
from claimwork.ticket_store import RenameStore
from tests.conftest import memory_tree

OK = Outcome(True, 1, "d")
TICKETS = [(0, 4, 40, 6, 0), (4, 6, 20, 5, 0), (6, 8, 2, 2, 1)]
NONCE = "f" * 16


class World:
    """A job in memory of one closed generation: eight inputs in three tickets."""

    def __init__(self, *, closed: bool = True) -> None:
        self.server, self.layout = memory_tree()
        self.worker = f"{1:032x}"
        self.server.mkdir(self.layout.stage_of(self.worker))
        self.server.mkdir(self.layout.work_of(self.worker))
        self.server.stage(self.layout.live_of(self.worker), b"")
        self.stage = Stage(self.server, self.layout, self.worker, "w")
        self.store = RenameStore(self.server, self.layout, self.worker, self.stage)
        self.claims = Claims(self.server, self.layout, self.store, ManualClock(), Random(0))
        self.log = PlanLog(self.server, self.layout)
        self.coverage = Coverage(self.server, self.layout, self.log)
        self.log.append(
            0, Segment([Input(str(size), size) for size in (10, 10, 10, 10, 10, 10, 1, 1)], TICKETS), self.stage
        )
        self.close = Close(1, None, [(0, 8, 62)])
        if closed:
            self.log.append(1, self.close, self.stage)

    def done(self, *indexes: int, segment: int = 0) -> None:
        write_done(self.server, self.layout, self.stage, segment, dict.fromkeys(indexes, OK), [])

    def missing(self) -> list[tuple[int, int, int]]:
        return [(each.lo, each.hi, each.attempt) for each in self.coverage.missing_tickets(self.claims, NONCE)]


def first(nth: int) -> Ticket:
    """One of the tickets that the segment starts with."""
    lo, hi, size, weight, shard = TICKETS[nth]
    return map_ticket(shard, weight, 0, lo, hi, size)


def test_a_job_without_a_plan_is_planning() -> None:
    """Nothing is known to be covered."""
    world = World()
    for name in world.server.names(world.layout.plan):
        world.server.unlink(f"{world.layout.plan}/{name}")

    assert world.coverage.state() == JobState(None, planning=True, covered=False, reduced=False)
    assert World(closed=False).coverage.state() == JobState(None, planning=True, covered=False, reduced=False)


def test_a_job_goes_through_its_states() -> None:
    """Open, covered, reduced; complete is all of it."""
    world = World()
    states = []
    for indexes in [], range(7), [7]:
        world.done(*indexes)
        states.append(world.coverage.state())
    world.server.stage(world.layout.summary(1), b"")
    states.append(world.coverage.state())

    assert states == [
        JobState((1, world.close), planning=False, covered=False, reduced=False),
        JobState((1, world.close), planning=False, covered=False, reduced=False),
        JobState((1, world.close), planning=False, covered=True, reduced=False),
        JobState((1, world.close), planning=False, covered=True, reduced=True),
    ]
    assert [state.complete for state in states] == [False, False, False, True]


def test_a_new_generation_is_not_covered_by_the_old() -> None:
    """Planning more makes a complete job incomplete."""
    world = World()
    world.done(*range(8))
    world.server.stage(world.layout.summary(1), b"")
    assert world.coverage.state().complete
    world.log.append(2, Segment([Input("new", 1)], [(0, 1, 1, 1, 2)], previous=1), world.stage)

    assert world.coverage.state() == JobState((1, world.close), planning=True, covered=True, reduced=True)
    close = Close(2, 1, [(2, 1, 1)])
    world.log.append(3, close, world.stage)
    assert world.coverage.state() == JobState((3, close), planning=False, covered=False, reduced=False)
    assert [world.coverage.covers_entry(entry) for entry in (0, 1, 2, 3, 4)] == [False, True, False, False, False]


def test_overlapping_records_cover() -> None:
    """Ranges may have been done twice, cut differently."""
    world = World()
    world.done(*range(6))
    world.done(*range(4, 8))

    assert world.coverage.state().covered


@pytest.mark.parametrize("name", ["8-9", "20-30", "0-8 ", "0-9x", "8-0"])
def test_strangers_among_done_records_change_nothing(name: str) -> None:
    """Neither does a range beyond the end make a segment for ever incomplete, nor a wrong name make it complete."""
    world = World()
    world.server.mkdir(world.layout.done_of(0))
    world.server.stage(f"{world.layout.done_of(0)}/{name}", b"")

    assert not world.coverage.state().covered
    world.done(*range(8))
    assert world.coverage.state().covered


def test_who_only_waits_lists_no_segment() -> None:
    """A summary says that all is done, and without one nothing is known: a crowd does not list each segment for each worker."""
    world = World()
    fs = HookedFs(world.server)
    listed: list[str] = []
    fs.before = lambda op, args: listed.append(args[0]) if op == "names" else None  # type: ignore[method-assign]
    coverage = Coverage(fs, world.layout, PlanLog(fs, world.layout))
    world.done(*range(8))

    assert coverage.state(thorough=False) == JobState((1, world.close), planning=False, covered=False, reduced=False)
    world.server.stage(world.layout.summary(1), b"")
    assert coverage.state(thorough=False).complete
    assert not [path for path in listed if path.startswith(world.layout.done)]


def test_who_only_waits_learns_of_a_later_generation_that_is_reduced() -> None:
    """The one it waits for may have no summary of its own: a reduction that finds a later generation makes none."""
    world = World()
    assert world.coverage.state().close == (1, world.close)
    world.log.append(2, Segment([Input("new", 1)], [(0, 1, 1, 1, 2)], previous=1), world.stage)
    close = Close(2, 1, [(2, 1, 1)])
    world.log.append(3, close, world.stage)
    assert world.coverage.state(thorough=False).close == (1, world.close)

    world.server.stage(world.layout.summary(3), b"")
    assert world.coverage.state(thorough=False) == JobState((3, close), planning=False, covered=True, reduced=True)


def test_the_last_segment_is_looked_at_first() -> None:
    """The lightest inputs come last, so while anything is open, that is; the others need no look."""
    world = World()
    world.log.append(2, Segment([Input("new", 1)], [(0, 1, 1, 1, 2)], previous=1), world.stage)
    world.log.append(3, Close(2, 1, [(2, 1, 1)]), world.stage)
    fs = HookedFs(world.server)
    listed: list[str] = []
    fs.before = lambda op, args: listed.append(args[0]) if op == "names" else None  # type: ignore[method-assign]
    coverage = Coverage(fs, world.layout, PlanLog(fs, world.layout))

    assert not coverage.state().covered
    assert [path for path in listed if path.startswith(world.layout.done)] == [world.layout.done_of(2)]


def listed_by(world: World) -> tuple[Coverage, list[str]]:
    """Coverage of its own, and what it lists."""
    fs = HookedFs(world.server)
    listed: list[str] = []
    fs.before = lambda op, args: listed.append(args[0]) if op == "names" else None  # type: ignore[method-assign]
    return Coverage(fs, world.layout, PlanLog(fs, world.layout)), listed


def test_who_may_not_look_knows_what_it_has_found() -> None:
    """It lists no segment, and the plan only until it knows the close; what it found done before is enough."""
    world = World()
    world.done(*range(8))
    coverage, listed = listed_by(world)

    assert not coverage.covers_entry(1, look=False)
    assert listed == [world.layout.plan]
    assert coverage.covers_entry(1)
    assert coverage.covers_entry(1, look=False)
    assert listed == [world.layout.plan, world.layout.done_of(0)]
    assert not coverage.covers_entry(7, look=False)


def test_the_segment_that_was_open_is_looked_at_first() -> None:
    """While it is, no other needs a look: not those before it, nor those behind that were never looked at."""
    world = World()
    for number in (2, 4):
        world.log.append(number, Segment([Input("new", 1)], [(0, 1, 1, 1, 2)], previous=number - 1), world.stage)
        world.log.append(number + 1, Close(number, number - 1, [(number, 1, 1)]), world.stage)
    world.done(0, segment=4)
    coverage, listed = listed_by(world)
    for _ in range(2):
        assert not coverage.covers_entry(5)
    world.done(0, segment=2)
    assert not coverage.covers_entry(5)

    done = [path for path in listed if path.startswith(world.layout.done)]
    assert done == [world.layout.done_of(number) for number in (4, 2, 2, 2, 0)]


def test_who_only_waits_for_a_summary_lists_no_log() -> None:
    """Whatever was planned since, a job whose last known generation has no summary is not complete; once it has one, it may be."""
    world = World()
    coverage, listed = listed_by(world)
    assert coverage.state(thorough=False).close == (1, world.close)
    listed.clear()
    assert not coverage.state(thorough=False).complete
    assert listed == [world.layout.summaries]

    world.server.stage(world.layout.summary(1), b"")
    world.log.append(2, Segment([Input("new", 1)], [(0, 1, 1, 1, 2)], previous=1), world.stage)
    assert not coverage.state(thorough=False).complete
    world.log.append(3, Close(2, 1, [(2, 1, 1)]), world.stage)
    assert not coverage.state(thorough=False).complete
    world.server.stage(world.layout.summary(3), b"")
    assert coverage.state(thorough=False).complete


def test_full_segments_are_remembered() -> None:
    """A look at a job costs one listing of the last segment that is not done."""
    world = World()
    world.done(*range(8))
    assert world.coverage.is_full(0, 8)
    for name in world.server.names(world.layout.done_of(0)):
        world.server.unlink(f"{world.layout.done_of(0)}/{name}")

    assert world.coverage.is_full(0, 8)


def test_what_is_in_no_place_is_missing() -> None:
    """Whole tickets where nothing is left; at attempt 2, in the shard and of the size that they had."""
    world = World()

    assert world.coverage.missing_tickets(world.claims, NONCE) == [first(nth).again(NONCE) for nth in range(3)]


def test_what_nobody_alive_holds_is_missing() -> None:
    """A ticket under the name of a worker that is neither live nor being buried would stay there for ever."""
    world = World()
    world.store.offer(first(1))
    assert world.store.claim(first(1))
    assert (4, 6, 2) not in world.missing()
    world.server.unlink(world.layout.live_of(world.worker))
    assert (4, 6, 2) in world.missing()


def test_what_waits_or_is_held_or_done_is_not_missing() -> None:
    """Each is enough."""
    world = World()
    world.store.offer(first(0))
    world.store.offer(first(1))
    assert world.store.claim(first(1))
    world.done(6)

    assert world.missing() == [(7, 8, 2)]
    world.done(7)
    assert world.missing() == []


def test_who_has_just_listed_all_tickets_lists_who_holds_them_no_second_time() -> None:
    """It is a listing for each worker; what waits is listed once more, since a ticket may have been put back meanwhile."""
    world = World()
    world.store.offer(first(0))
    assert world.store.claim(first(0))
    coverage, listed = listed_by(world)
    seen = [*world.claims.ready(), *world.coverage.held()]
    world.store.offer(first(1))

    assert [each.lo for each in coverage.missing_tickets(world.claims, NONCE, seen)] == [6]
    assert not [path for path in listed if path.startswith((world.layout.work, world.layout.live, world.layout.dead))]


def test_a_hole_is_offered_in_the_pieces_of_its_tickets() -> None:
    """The range that is missing may have been cut otherwise since."""
    world = World()
    world.store.offer(first(0).successor(lo=0, hi=2))
    world.done(5, 7)

    assert world.missing() == [(2, 4, 2), (4, 5, 2), (6, 7, 2)]
    assert [each.size_bytes for each in world.coverage.missing_tickets(world.claims, NONCE)] == [20, 10, 1]


def test_tickets_of_the_dead_are_not_missing() -> None:
    """Whoever takes them back will bring them; strangers in work/ are passed over."""
    world = World()
    world.store.offer(first(0))
    world.store.claim(first(0))
    world.server.mkdir(f"{world.layout.work}/x")
    world.server.stage(f"{world.layout.work}/x/{first(1).name}", b"")
    world.server.stage(f"{world.layout.work}/{first(2).name}", b"")

    assert world.missing() == [(4, 6, 2), (6, 8, 2)]


def test_nothing_is_missing_while_planning_goes_on() -> None:
    """The planner is about to offer those tickets."""
    world = World(closed=False)

    assert world.missing() == []


def test_a_reduction_lost_with_its_workers_is_not_spent() -> None:
    """Two hosts died while they reduced, and every worker after them left: the reducer had failed often enough, they thought."""
    world = World()
    job = Job(id="0" * 32, task="wordcount", max_attempts=2)
    lost = replace(reduce_ticket(1), attempt=3)
    assert not world.coverage.is_spent(lost, job)

    world.server.mkdir(world.layout.failures_of(1))
    for attempt in 1, 2:
        world.server.stage(f"{world.layout.failures_of(1)}/{failure_name(0, attempt)}", b"")
    assert world.coverage.is_spent(lost, job)
    assert not world.coverage.is_spent(reduce_ticket(1), job)


def test_a_part_with_a_value_is_a_control_where_no_input_has_a_result() -> None:
    """Errors show nothing, nor does an input that was quarantined; a result comes before all parts."""
    world = World()
    assert world.coverage.finished(()) is None
    publish_part(world.server, world.layout, world.stage, 3, 0, Part(error="no good"))
    write_done(world.server, world.layout, world.stage, 0, {1: Outcome(False, 0, "")}, [])
    assert world.coverage.finished(()) is None

    publish_part(world.server, world.layout, world.stage, 3, 4, Part([1]))
    assert world.coverage.finished(()) == part_ticket(0, 0, 3, 4, 0)
    assert world.coverage.finished([(3, 4)]) is None
    world.done(2)
    assert world.coverage.finished(()) == map_ticket(0, 0, 0, 2, 3, 1)
    world.server.rename(world.layout.parts, "/out/gone")
    assert world.coverage.finished([(0, 2)]) is None
