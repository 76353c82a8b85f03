"""Copies of what lasts: who runs which, how many, and that nothing but time hangs on them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from claimwork import records
from claimwork.backups import Backups
from claimwork.child import MapReport
from claimwork.effort import Effort
from claimwork.executor import Crashed, Finished, Running
from claimwork.names import Ticket, map_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Failure, Input, Job, Outcome, Segment
from claimwork.results import Stage, write_done
from claimwork.story import Story
from claimwork.testing import ManualClock
from tests.conftest import memory_tree

JOB = Job("0" * 32, "wordcount", patience_s=75.0, split_bytes=5000)
HOLDS = [100, 100, 100, 9000]  # bytes of the inputs; the last one is in parts
SEEN = Effort.of([(100, 10.0)] * 4)  # an input of 100 bytes takes ten seconds
LOOK_S = 15.0
PEERS = 9


class World:
    """Workers of a job in memory; number 1 is at the inputs, the others are idle."""

    def __init__(self, kind: str = "tmpfs") -> None:
        self.server, self.layout = memory_tree(kind)
        self.clock = ManualClock()
        self.log = PlanLog(self.server, self.layout)
        inputs = [Input(f"{nth}", size) for nth, size in enumerate(HOLDS)]
        self.log.append(0, Segment(inputs, [(0, len(inputs), 1, 1, 0)]), self.stage(1))

    def stage(self, number: int) -> Stage:
        self.server.mkdir(self.layout.stage_of(f"{number:032x}"))
        return Stage(self.server, self.layout, f"{number:032x}", "w")

    def beat(self, *current: tuple[str, float], number: int = 1) -> None:
        """A worker says what it is at, and for how long."""
        record = BeatRecord(f"{number:032x}", 0, boot="", host="h", started_at=0.0, current=list(current))
        self.server.stage(self.layout.live_of(record.worker), records.encode_beat(record))

    def idle(self, number: int, job: Job = JOB) -> Backups:
        """A worker that has nothing to do, and is due to look."""
        me = f"{number:032x}"
        made = Backups(self.server, self.layout, job, self.log, self.stage(number), self.clock, Random(0), me, Story())
        self.clock.sleep(LOOK_S)
        return made

    def finish(self, index: int) -> None:
        write_done(self.server, self.layout, self.stage(1), 0, {index: Outcome(True, 1, "x")}, [])

    def rights(self) -> list[str]:
        return self.server.names(self.layout.backups)


def copying() -> tuple[World, Backups, Ticket]:
    """A worker that was given a copy of input 0."""
    world = World()
    world.beat(("0:0", 99.0))
    idle = world.idle(2)
    copy = idle.next(PEERS, SEEN)
    assert copy is not None
    return world, idle, copy


def given(ticket: Ticket | None) -> tuple[int, int, int, int] | None:
    """Segment, range and attempt."""
    return None if ticket is None else (ticket.segment, ticket.lo, ticket.hi, ticket.attempt)


def test_one_idle_worker_gets_a_copy_of_what_lasts_longest() -> None:
    """As a second attempt, so that its outcome is settled; nobody else gets it, now or later."""
    world = World()
    world.beat(("0:0", 21.0), ("0:1", 35.0))

    first = world.idle(2)
    copy = first.next(30, SEEN)
    assert given(copy) == (0, 1, 2, 2)
    assert world.rights() == ["000000.1"]
    assert first.next(30, SEEN) is None, "one at a time"
    assert given(world.idle(3).next(30, SEEN)) == (0, 0, 1, 2)
    assert world.idle(4).next(30, SEEN) is None


@pytest.mark.parametrize(
    ("current", "effort", "job"),
    [
        (("0:0", 19.0), SEEN, JOB),  # not twice as long as its size says
        (("0:0", 14.0), Effort.of([(100, 0.1)]), JOB),  # not for as long as a beat is old
        (("0:0", 99.0), Effort(), JOB),  # nobody knows how long it should take
        (("0:0", 99.0), SEEN, replace(JOB, backups=False)),
        (("0:3", 1e6), SEEN, JOB),  # in parts
        (("0:9", 99.0), SEEN, JOB),  # there is no such input
        (("7:0", 99.0), SEEN, JOB),
        (("reduce", 99.0), SEEN, JOB),
        (("0:x", 99.0), SEEN, JOB),
    ],
)
def test_there_is_nothing_to_copy(current: tuple[str, float], effort: Effort, job: Job) -> None:
    """And nobody takes the right to it."""
    world = World()
    world.beat(current)

    assert world.idle(2, job).next(PEERS, effort) is None
    assert world.rights() == []


def test_what_has_an_outcome_is_not_copied() -> None:
    """Done, published or settled: whoever holds it is about to say so."""
    world = World()
    world.beat(("0:0", 99.0), ("0:1", 99.0), ("0:2", 99.0))
    world.finish(0)
    world.server.stage(f"{world.layout.results}/1.json", b"1")
    world.server.mkdir(world.layout.settled_of(0))
    world.server.stage(f"{world.layout.settled_of(0)}/2", b"1")

    assert world.idle(2).next(PEERS, SEEN) is None


def test_a_tenth_of_the_workers_run_copies() -> None:
    """One at least; a copy counts until its input is done, whoever ran it."""
    world = World()
    world.beat(("0:0", 99.0), ("0:1", 98.0), ("0:2", 97.0))
    assert given(world.idle(2).next(PEERS, SEEN)) == (0, 0, 1, 2)

    assert world.idle(3).next(PEERS + 9, SEEN) is None, "nineteen workers"
    assert given(world.idle(3).next(PEERS + 10, SEEN)) == (0, 1, 2, 2)
    assert world.idle(4).next(PEERS, SEEN) is None
    world.finish(0)
    world.finish(1)
    assert given(world.idle(4).next(PEERS, SEEN)) == (0, 2, 3, 2)


def test_a_worker_looks_once_in_a_while() -> None:
    """Each look reads the beats of peers; on a network mount about one worker in so many looks."""
    world = World()
    idle = world.idle(2)
    assert idle.next(PEERS, SEEN) is None
    world.beat(("0:0", 99.0))
    assert idle.next(PEERS, SEEN) is None
    world.clock.sleep(LOOK_S)
    assert idle.next(PEERS, SEEN) is not None

    looks = 0
    for seed in range(200):
        distant = World("nfs4")
        distant.beat(("0:0", 99.0))
        idle = distant.idle(2)
        idle.rng = Random(seed)
        distant.clock.sleep(60.0)
        looks += idle.next(PEERS, SEEN) is not None
    assert 8 <= looks <= 35, "of 200, a tenth on average"


def test_a_copy_that_was_first_counts_here() -> None:
    """Its right stays, and tells whoever holds the input."""
    world, idle, copy = copying()
    assert idle.is_copy(copy)

    report = MapReport(stopped_at=1, done=1, done_bytes=100, effort=SEEN)
    assert idle.ended(Finished(0, copy, report)) == (1, 100, SEEN)
    assert not idle.is_copy(copy)
    assert world.rights() == ["000000.0"]


@pytest.mark.parametrize("how", ["failed", "killed", "second"])
def test_a_copy_that_brings_nothing_is_charged_to_nobody(how: str) -> None:
    """It failed, ended its child, or found the input done; it is not tried again."""
    world, idle, copy = copying()
    failures = [(Failure("0", 0, 0, 2, "exception", "no"), False)] if how == "failed" else []
    report = MapReport(stopped_at=1, done=int(how == "second"), adopted=int(how == "second"), failures=failures)
    event = Crashed(0, copy, "crash", "SIGKILL", "", 0) if how == "killed" else Finished(0, copy, report)

    assert idle.ended(event) == (0, 0, Effort())
    assert world.server.names(world.layout.failures) == world.server.names(world.layout.quarantine) == []
    world.clock.sleep(LOOK_S)
    assert idle.next(PEERS, SEEN) is None


def at(world: World, ticket: Ticket, for_s: float = 99.0) -> dict[int, Running]:
    """A slot that is at the first input of *ticket*."""
    now = world.clock.monotonic()
    return {3: Running(ticket, ticket.lo, now - for_s, now - for_s)}


def test_whoever_holds_an_input_that_a_copy_has_done_ends_it() -> None:
    """Unless nobody had the right to copy it: then it is its own done record, or that of a control."""
    world = World()
    held = map_ticket(0, 1, 0, 1, 3, 200)
    owner = world.idle(1)
    world.finish(1)
    assert list(owner.overtaken(at(world, held), {held.name})) == []

    world.server.stage(world.layout.backup(0, 1), b"")
    world.clock.sleep(LOOK_S)
    assert list(owner.overtaken(at(world, held), {})) == [], "a control is nobody's ticket"
    world.clock.sleep(LOOK_S)
    assert [slot for slot, _ in owner.overtaken(at(world, held), {held.name})] == [3]
    assert world.rights() == []


def test_an_input_that_is_copied_goes_on_until_the_copy_is_done() -> None:
    """And one that has run for less than a beat is not looked at: nobody can have copied it."""
    world = World()
    held = map_ticket(0, 1, 0, 1, 3, 200)
    owner = world.idle(1)
    world.server.stage(world.layout.backup(0, 1), b"")
    assert list(owner.overtaken(at(world, held), {held.name})) == []

    world.finish(1)
    world.clock.sleep(LOOK_S)
    assert list(owner.overtaken(at(world, held, for_s=1.0), {held.name})) == []


@pytest.mark.parametrize("how", ["done", "published"])
def test_a_copy_that_was_overtaken_ends(how: str) -> None:
    """By a done record, or by a result that it has not settled itself."""
    world, idle, copy = copying()
    assert list(idle.overtaken(at(world, copy, 1.0), {})) == []
    world.clock.sleep(LOOK_S)
    if how == "done":
        world.finish(0)
    else:
        world.server.stage(f"{world.layout.results}/0.json", b"1")

    assert [slot for slot, _ in idle.overtaken(at(world, copy, 1.0), {})] == [3]
    assert not idle.is_copy(copy)
    assert world.rights() == []


def test_a_copy_ends_also_while_its_child_is_loading() -> None:
    """That may take longer than what is left of the job."""
    world, idle, copy = copying()
    loading = {3: Running(copy, None, 0.0, world.clock.monotonic())}
    world.finish(0)
    world.clock.sleep(LOOK_S)

    assert [slot for slot, _ in idle.overtaken(loading, {})] == [3]


def test_a_copy_that_lasts_as_well_makes_way() -> None:
    """Twice as long as the size says, as what it is a copy of; nobody gets another one."""
    world, idle, copy = copying()
    assert not idle.is_late(at(world, copy, 19.0)[3])
    assert idle.is_late(at(world, copy, 21.0)[3])
    assert not idle.is_late(at(world, map_ticket(0, 1, 0, 1, 3, 200))[3])
    assert not idle.is_late(Running(copy, None, 0.0, 0.0)), "loading the task says nothing of the input"

    idle.make_way()
    assert not idle.is_copy(copy)
    world.clock.sleep(LOOK_S)
    assert idle.next(PEERS, SEEN) is None


def test_an_input_whose_place_is_taken_is_not_copied() -> None:
    """By a file where a directory of results should be, say; whoever holds the input says so, and idle workers go on."""
    world = World()
    inputs = [Input("d/x", 100)]
    world.log.append(1, Segment(inputs, [(0, 1, 1, 1, 0)], previous=0), world.stage(1))
    world.server.stage(f"{world.layout.results}/d", b"")
    world.beat(("1:0", 99.0))

    assert world.idle(2).next(PEERS, SEEN) is None


def test_a_copy_that_publishes_just_now_goes_on() -> None:
    """What it has settled looks like somebody else's."""
    world, idle, copy = copying()
    world.server.mkdir(world.layout.settled_of(0))
    world.server.stage(f"{world.layout.settled_of(0)}/0", b"1")
    world.server.stage(f"{world.layout.results}/0.json", b"1")
    world.clock.sleep(LOOK_S)

    assert list(idle.overtaken(at(world, copy, 1.0), {})) == []
