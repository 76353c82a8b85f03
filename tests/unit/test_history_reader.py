"""The history is read some files at a time, each once, and goes around what is damaged."""

from __future__ import annotations

from collections import Counter
from typing import Any

from claimwork.history_reader import HistoryReader
from claimwork.names import failure_name
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Close, Failure, Input, Outcome, Ran, Segment, encode_beat, encode_failure
from claimwork.results import Stage, write_done
from claimwork.testing import HookedFs, MemoryServer
from tests.conftest import memory_tree

WORKER = f"{1:032x}"
START = 1.75e9


class Counted(HookedFs):
    """Counts which paths are read."""

    def __init__(self, inner: MemoryServer) -> None:
        super().__init__(inner)
        self.reads: Counter[str] = Counter()

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        if op == "read":
            self.reads[args[0]] += 1


class World:
    """A job in memory: segments of four inputs, of which one after the other is done."""

    def __init__(self, segments: int) -> None:
        self.server, self.layout = memory_tree()
        self.server.mkdir(self.layout.stage_of(WORKER))
        self.stage = Stage(self.server, self.layout, WORKER, "w")
        log = PlanLog(self.server, self.layout)
        for number in range(segments):
            log.append(
                number, Segment([Input(f"{number}-{index}", 9) for index in range(4)], [(0, 4, 36, 7, 0)]), self.stage
            )
        log.append(segments, Close(1, None, [(number, 4, 36) for number in range(segments)]), self.stage)
        self.fs = Counted(self.server)
        self.log = PlanLog(self.fs, self.layout)
        self.reader = HistoryReader(self.fs, self.layout, self.log)

    def finish(self, segment: int, *indexes: int, took_s: float = 1.0) -> None:
        ran = Ran(START + segment, took_s, 9)
        outcomes = {index: Outcome(True, 1, "d", ran=ran) for index in indexes or range(4)}
        write_done(self.server, self.layout, self.stage, segment, outcomes, [])

    def advance(self, budget: int | None = None) -> bool:
        return self.reader.advance(self.log.closes()[0], budget)

    def done_reads(self) -> Counter[str]:
        return Counter({path: count for path, count in self.fs.reads.items() if "/done/" in path})


def test_each_done_record_is_read_once() -> None:
    """However often it is looked at, and whatever comes new between two looks."""
    world = World(4)
    world.finish(0)
    world.finish(1, 0)
    assert world.advance()
    assert world.reader.history.seen == 5
    world.finish(1, 1, 2, 3)
    world.finish(3)

    for _ in range(3):
        assert world.advance()

    assert world.reader.history.seen == 12
    assert set(world.done_reads().values()) == {1}


def test_some_files_at_a_time() -> None:
    """A call reads no more than it may; the next one goes on there, until all is read."""
    world = World(50)
    for number in range(50):
        world.finish(number)

    calls = 0
    while not world.advance(budget=10):
        calls += 1
        assert world.done_reads().total() <= 10 * calls
    assert world.reader.history.seen == 200
    assert calls >= 9  # a listing and a record for each segment


def test_overlapping_records_do_not_make_a_segment_complete() -> None:
    """Two records of the same two inputs are no four inputs: the others are read when they come."""
    world = World(1)
    world.finish(0, 0, 1)
    world.finish(0, 1)
    world.finish(0, 0)
    world.advance()
    world.finish(0, 2, 3)

    world.advance()

    assert world.reader.history.seen == 6


def test_what_is_damaged_is_passed_over() -> None:
    """A damaged record, beat, note or plan entry costs what it tells, and nothing else."""
    world = World(2)
    world.finish(0, took_s=5.0)
    world.finish(1)
    names = world.server.names(world.layout.done_of(1))
    world.server.unlink(f"{world.layout.done_of(1)}/{names[0]}")
    world.server.stage(f"{world.layout.done_of(1)}/{names[0]}", b"{")
    world.server.stage(world.layout.left_of(WORKER), b"nonsense")
    world.server.mkdir(world.layout.failures_of(0))
    world.server.stage(f"{world.layout.failures_of(0)}/{failure_name(0, 1)}", b"\xff")
    world.server.unlink(world.layout.segment(0))

    assert world.advance()

    shown = world.reader.history.to_json()
    assert (shown["timed"], shown["failed"], shown["workers"][0]["state"]) == (4, 1, "unknown")
    assert shown["slowest"][0]["input"] == "0:0"


def test_the_slowest_are_named_and_failures_are_placed() -> None:
    """By the plan; a failed attempt stands in the row of the worker that made it."""
    world = World(3)
    for number in range(3):
        world.finish(number, took_s=1.0 + number)
    world.server.stage(
        world.layout.left_of(WORKER), encode_beat(BeatRecord(WORKER, 1, host="h", state="left", at=START))
    )
    world.server.mkdir(world.layout.failures_of(2))
    failure = Failure("2-1", 2, 1, 1, "timeout", "too long", worker=WORKER, at=START + 1)
    world.server.stage(f"{world.layout.failures_of(2)}/{failure_name(1, 1)}", encode_failure(failure))

    world.advance()

    shown = world.reader.history.to_json()
    assert shown["slowest"][0]["input"].startswith("2-")
    assert shown["workers"][0]["fails"] == [[1.0, "2-1", "timeout: too long"]]
    assert (shown["failed"], shown["workers"][0]["state"]) == (1, "left")
