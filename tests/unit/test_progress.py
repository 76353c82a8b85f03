"""Progress: counted from tickets, verified in done records, at a cost that does not grow with the job."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from claimwork.effort import Effort
from claimwork.names import map_ticket, part_ticket
from claimwork.plan_log import PlanLog
from claimwork.progress import Open, ProgressReader
from claimwork.records import BeatRecord, Close, Input, Job, Outcome, Segment, encode_beat, encode_job
from claimwork.results import Stage, write_done
from claimwork.status import StatusReader
from claimwork.testing import HookedFs, ManualClock, MemoryServer
from tests.conftest import memory_tree

OK = Outcome(True, 1, "d")
SIZES = [40, 30, 20, 10]


class Counted(HookedFs):
    """Counts calls."""

    def __init__(self, inner: MemoryServer) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self.calls[op] += 1


class World:
    """A job in memory: segments of four inputs, with a ticket each, 256 tickets to a shard."""

    def __init__(self, segments: int) -> None:
        self.server, self.layout = memory_tree()
        self.worker = f"{1:032x}"
        self.server.mkdir(self.layout.stage_of(self.worker))
        self.server.mkdir(self.layout.work_of(self.worker))
        self.server.stage(self.layout.live_of(self.worker), encode_beat(BeatRecord(self.worker, 1, at=1.75e9)))
        self.server.stage(self.layout.job, encode_job(Job("j", "t")))
        self.stage = Stage(self.server, self.layout, self.worker, "w")
        log = PlanLog(self.server, self.layout)
        tickets = [[0, 4, 100, 7, 0]]
        for number in range(segments):
            inputs = [Input(f"{number}-{index}", size) for index, size in enumerate(SIZES)]
            log.append(number, Segment(inputs, [tuple(row) for row in tickets]), self.stage)  # type: ignore[misc]
            self.server.mkdir(f"{self.layout.ready}/{number // 256:06d}")
            self.server.stage(self.ready(number), b"")
        log.append(segments, Close(1, None, [(number, 4, 100) for number in range(segments)]), self.stage)
        self.fs = Counted(self.server)
        self.reader = ProgressReader(self.fs, self.layout, PlanLog(self.fs, self.layout))

    def ready(self, number: int) -> str:
        return self.layout.ready_ticket(map_ticket(number // 256, 7, number, 0, 4, 100))

    def claim(self, number: int) -> None:
        ticket = map_ticket(number // 256, 7, number, 0, 4, 100)
        self.server.rename(self.ready(number), self.layout.held_ticket(self.worker, ticket))

    def finish(self, number: int, *indexes: int) -> None:
        write_done(self.server, self.layout, self.stage, number, dict.fromkeys(indexes or range(4), OK), [])

    def drop(self, number: int) -> None:
        self.server.unlink(self.ready(number))

    def look(self) -> Open:
        closes, _ = PlanLog(self.server, self.layout).closes()
        return self.reader.look(closes)


def test_what_is_in_a_ticket_is_open_and_what_is_not_is_looked_up() -> None:
    """Counts and bytes follow the done records; a ticket that is held is as open as one that waits."""
    world = World(3)
    assert (world.look().settled, world.look().total, world.look().total_bytes) == (0, 12, 300)
    world.claim(0)
    assert world.look().settled == 0
    world.finish(1)
    world.drop(1)
    assert (world.look().settled, world.look().settled_bytes) == (4, 100)
    world.finish(2, 0)
    world.drop(2)

    counted = world.look()

    assert (counted.settled, counted.settled_bytes, counted.left) == (5, 140, 7)
    assert counted.exact
    assert list(counted.held) == [world.worker]


def test_a_lost_ticket_does_not_count_as_done() -> None:
    """An input without a ticket and without a done record is open: the ticket was lost, or is on its way."""
    world = World(2)
    world.drop(0)

    assert world.look().settled == 0
    assert world.look().exact


def test_a_large_job_is_presumed_first_and_verified_later() -> None:
    """The first look at many finished segments presumes those that have done records, and says so; the next ones verify."""
    world = World(200)
    for number in range(100):
        world.finish(number)
        world.drop(number)
    world.drop(150)  # lost

    first = world.look()

    assert not first.exact
    assert first.settled == 400
    for _ in range(3):
        world.look()
    last = world.look()
    assert last.exact
    assert last.settled == 400


def test_a_look_costs_the_same_for_a_thousand_times_the_inputs() -> None:
    """Calls of a first look and of a later one, half way: bounded, whether a job has eight segments or two thousand."""
    costs = []
    for segments in (8, 2000):
        world = World(segments)
        for number in range(segments // 2):
            world.finish(number)
            world.drop(number)
        world.claim(segments - 1)
        reader = StatusReader(world.fs, world.layout, ManualClock())
        seen = []
        for _ in range(100):
            world.fs.calls.clear()
            reader.read()
            seen.append(world.fs.calls.total())
        snapshot = reader.read()
        assert (snapshot.done, snapshot.total, snapshot.exact) == (segments * 2, segments * 4, True)
        costs.append((seen[0], seen[-1]))

    (small_first, small_later), (large_first, large_later) = costs
    assert large_first <= small_first + 64  # listings that verify, and seven more shards
    assert large_later <= small_later + 8  # seven more shards


def test_many_slots_at_one_input_are_reckoned_with() -> None:
    """A large input in parts is done in the time that all slots need for the parts that are open, not in that of one slot."""
    world = World(0)
    size, parts = 10**9, 100
    world.server.unlink(world.layout.job)
    world.server.stage(world.layout.job, encode_job(Job("j", "t", split_bytes=size // parts)))
    log = PlanLog(world.server, world.layout)
    log.append(1, Segment([Input("large", size)], [(0, 1, size, 0, 0)]), world.stage)
    log.append(2, Segment([Input("a", 3), Input("b", 2)], [(0, 2, 5, 3, 0)]), world.stage)
    log.append(3, Close(2, 0, [(1, 1, size), (2, 2, 5)]), world.stage)
    world.server.mkdir(f"{world.layout.ready}/000000")
    world.server.stage(world.layout.ready_ticket(map_ticket(0, 0, 1, 0, 1, size)), b"")
    world.server.stage(world.layout.ready_ticket(map_ticket(0, 3, 2, 0, 2, 5)), b"")
    for nth in range(20, parts):
        ticket = part_ticket(0, 24, 1, nth, size // parts)
        at = world.layout.ready_ticket(ticket) if nth >= 24 else world.layout.held_ticket(world.worker, ticket)
        world.server.stage(at, b"")
    beat = BeatRecord(
        world.worker,
        2,
        at=1.75e9,
        state="busy",
        slots=4,
        current=[("1:0", 0.0)] * 4,
        effort=Effort.of([(size // parts, 1.0)] * 20),
    )
    world.server.unlink(world.layout.live_of(world.worker))
    world.server.stage(world.layout.live_of(world.worker), encode_beat(beat))

    snapshot = StatusReader(world.fs, world.layout, ManualClock()).read()

    assert (snapshot.done, snapshot.total, snapshot.done_bytes) == (0, 3, size * 20 // parts)
    assert (snapshot.running, snapshot.pending) == (1, 2)
    assert snapshot.eta is not None
    assert snapshot.eta.middle_s == pytest.approx(80 / 4, rel=0.1)
    assert snapshot.eta.high_s < 30


def test_a_copy_is_no_second_input() -> None:
    """Two workers are at one input: it is the last one, and it runs for as long as the first of them is at it."""
    world = World(1)
    world.finish(0, 0, 1, 2)
    world.drop(0)
    world.server.stage(world.layout.held_ticket(world.worker, map_ticket(0, 4, 0, 3, 4, 10)), b"")
    world.server.unlink(world.layout.live_of(world.worker))
    for number, since in ((1, 30.0), (2, 20.0)):
        beat = BeatRecord(
            f"{number:032x}", 0, state="busy", current=[("0:3", since)], effort=Effort.of([(10, 1.0)] * 3)
        )
        world.server.stage(world.layout.live_of(beat.worker), encode_beat(beat))

    snapshot = StatusReader(world.fs, world.layout, ManualClock()).read()

    assert (snapshot.running, snapshot.pending) == (1, 0)
    assert snapshot.tail is not None
    assert (snapshot.tail.inputs, snapshot.tail.medians > 25) == (1, True)


def test_parts_that_nobody_needs_are_nothing_to_wait_for() -> None:
    """Their input is settled; a ticket of theirs may lie about until somebody claims it."""
    left = [part_ticket(0, 24, 1, 0, 10)]

    assert Open(total=1, settled=1, ready=tuple(left)).pieces == 0
    assert Open(total=1, settled=0, ready=tuple(left), held={"w": left}).pieces == 3
