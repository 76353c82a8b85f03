"""Large inputs in parts: any cuts give the whole, and a part that is lost, broken or late costs nothing but time."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimwork import records
from claimwork.child import Mapper, MapReport
from claimwork.errors import RecordError, UsageError, WorkerFault
from claimwork.fs import Fs
from claimwork.names import Ticket
from claimwork.parts import are_known, known_parts, publish_part, read_part
from claimwork.plan_log import PlanLog
from claimwork.planner import Planner, first_tickets
from claimwork.records import Input, Job, Part, Segment
from claimwork.results import Stage, done_ranges, read_done
from claimwork.tasks import Attempt, PythonRunner, Task, _wordcount, load_task, task
from claimwork.testing import FaultyFs, ManualClock, run_task
from claimwork.ticket_store import RenameStore
from tests.conftest import Told, memory_tree

JOB = Job("job", "mine", split_bytes=10)
LARGE = Input("d/large", 25)


@task
def spans(path: Path, attempt: Attempt) -> list[list[int]]:
    """Which bytes it was asked for."""
    return [[attempt.start, attempt.stop]]


@spans.merge
def _(values: Iterator[Any]) -> list[list[int]]:
    return [span for value in values for span in value]


class World:
    """A job with one large input in segment 0."""

    def __init__(self) -> None:
        self.server, self.layout = memory_tree()
        self.stages = 0
        self.clock = ManualClock()
        self.segment = Segment([LARGE], [(0, 1, 25, 0, 0)])
        PlanLog(self.server, self.layout).append(0, self.segment, self.stage())
        *self.parts, self.whole = first_tickets(0, self.segment, JOB)

    def stage(self, fs: Fs | None = None) -> Stage:
        self.stages += 1
        self.server.mkdir(self.layout.stage_of(f"{self.stages:032x}"))
        return Stage(fs or self.server, self.layout, f"{self.stages:032x}", "c0")

    def mapper(self, of: Task, fs: Fs | None = None, told: Told | None = None) -> Mapper:
        """What a child does with a ticket."""
        fs = fs or self.server
        runner = PythonRunner(of)
        return Mapper(fs, self.layout, JOB, self.stage(fs), "/in", runner, self.clock, told or Told())

    def run(self, ticket: Ticket, of: Task = spans, fs: Fs | None = None, stop: int = 999) -> MapReport:
        return self.mapper(of, fs, Told(stop)).run(ticket)

    def known(self) -> list[int]:
        return sorted(known_parts(self.server, self.layout, 0).values)

    def result(self) -> Any:
        return json.loads(self.server.read("/out/results/d/large.json", 9999))


ALL = [[0, 10], [10, 20], [20, 25]]


def test_parts_and_the_whole() -> None:
    """Each part is told, the whole is what they make, and nothing is left of them."""
    world = World()
    reports = [world.run(ticket) for ticket in world.parts]

    assert world.known() == [0, 1, 2]
    assert [(each.done, each.done_bytes, each.stopped_at) for each in reports] == [(0, 10, 1), (0, 10, 2), (0, 5, 3)]
    assert world.run(world.whole) == MapReport(stopped_at=1, done=1, done_bytes=0, gathered=1)
    assert world.result() == ALL
    assert world.known() == []
    assert world.server.names(world.layout.parts) == []


@pytest.mark.parametrize("there", [[], [1], [0, 2]])
def test_who_gathers_computes_what_no_part_tells(there: list[int]) -> None:
    """And tells of those bytes only."""
    world = World()
    for nth in there:
        world.run(world.parts[nth])
    report = world.run(world.whole)

    assert (report.done, report.done_bytes) == (1, 25 - sum(stop - start for start, stop in (ALL[n] for n in there)))
    assert world.result() == ALL


def test_an_input_took_from_its_first_part_on() -> None:
    """For reports, which would tell of minutes of work as of the moment in which it was gathered; not for forecasts."""
    world = World()
    for nth in 2, 0:
        world.run(world.parts[nth])
        world.clock.now, world.clock.wall = world.clock.now + 60, world.clock.wall + 60

    @task
    def slow(path: Path, attempt: Attempt) -> list[list[int]]:
        world.clock.now += 5
        return [[attempt.start, attempt.stop]]

    slow.merge(spans.merged or list)
    report = world.run(world.whole, slow)
    ran = read_done(world.server, world.layout, 0, 0, 1).outcomes[0].ran

    assert ran is not None
    assert (ran.began_at, ran.took_s, ran.input_bytes) == (1.75e9, 125, 25)
    assert (report.effort.size_bytes, report.effort.took_s) == (10, 5)
    assert world.result() == ALL


def test_a_part_that_fails_is_tried_again_by_who_gathers() -> None:
    """It is charged there and then, as any attempt; the others are not computed once more."""
    world = World()
    asked: list[int] = []

    @task
    def fails(path: Path, attempt: Attempt) -> list[int]:
        asked.append(attempt.start)
        if attempt.start == 10:
            raise ValueError("no good")
        return [attempt.start]

    fails.merge(lambda values: [start for value in values for start in value])
    reports = [world.run(ticket, fails) for ticket in world.parts]
    assert [[each.error for each, _ in report.failures] for report in reports] == [[], ["ValueError: no good"], []]
    assert not known_parts(world.server, world.layout, 0).failed  # its worker may be to blame, and decides
    publish_part(world.server, world.layout, world.stage(), 0, 1, Part(error="ValueError: no good"))
    known = known_parts(world.server, world.layout, 0)
    failed = world.run(world.whole, fails)

    assert (sorted(known.values), sorted(known.failed)) == ([0, 2], [1])
    assert [(each.index, each.error) for each, _ in failed.failures] == [(0, "ValueError: no good")]
    assert asked == [0, 10, 20, 10]
    assert world.known() == [0, 2]
    assert world.run(world.whole.successor(attempt=2)).done == 1


def test_a_merge_that_fails_is_a_failure_of_the_input() -> None:
    """As an exception anywhere in a task."""
    world = World()

    @task
    def odd(path: Path, attempt: Attempt) -> int:
        return attempt.start

    odd.merge(lambda values: 1 // 0)
    report = world.run(world.whole, odd)

    assert [each.error for each, _ in report.failures] == ["ZeroDivisionError: integer division or modulo by zero"]
    assert not done_ranges(world.server, world.layout, 0)


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"v":1,"value":3', b"[]"])
def test_a_part_that_cannot_be_read_is_computed_again(damage: bytes) -> None:
    """Whatever stands in its place."""
    world = World()
    world.server.mkdir(world.layout.parts)
    world.server.mkdir(world.layout.parts_of(0))
    world.server.stage(world.layout.part(0, 1), damage)

    assert world.run(world.whole).done_bytes == 25
    assert world.result() == ALL


def test_a_fault_of_the_mount_is_none_of_the_input() -> None:
    """While a part is published, or read by who gathers."""
    world = World()
    world.run(world.parts[0])
    for op in "link", "read":
        fs = FaultyFs(world.server)

        def fail(called: str, args: tuple[Any, ...], op: str = op) -> None:
            if called == op and "/parts/" in args[-1 if op == "link" else 0]:
                raise OSError(errno.ENOSPC, "full")

        fs.before = fail  # type: ignore[method-assign, assignment]
        with pytest.raises(WorkerFault, match="no space"):
            world.run(world.parts[1] if op == "link" else world.whole, fs=fs)


def test_told_to_stop_before_the_next_part() -> None:
    """What was computed is kept, and nothing is charged."""
    world = World()

    assert world.run(world.parts[1], stop=0) == MapReport(stopped_at=1)
    assert world.run(world.whole, stop=0) == MapReport(stopped_at=0)
    told = Told()

    @task
    def stops(path: Path, attempt: Attempt) -> int:
        told.stop = 0
        return attempt.start

    stops.merge(list)
    assert world.mapper(stops, told=told).run(world.whole) == MapReport(stopped_at=0)
    assert world.known() == [0]


def test_a_part_of_an_input_that_is_done_goes_by_itself() -> None:
    """Also when the input was done while the part was computed; one that somebody made up is nothing."""
    world = World()

    @task
    def late(path: Path, attempt: Attempt) -> int:
        if attempt.start == 10:
            world.run(world.whole)
        return attempt.start

    late.merge(list)
    world.run(world.parts[1], late)

    assert world.result() == ALL
    assert world.known() == []
    assert world.run(world.parts[2]) == MapReport(stopped_at=3)
    assert world.run(world.parts[2].successor(lo=7, hi=8)) == MapReport(stopped_at=8)
    assert world.known() == []


def test_who_publishes_first_is_believed() -> None:
    """A part that two workers computed is told once."""
    world = World()
    publish_part(world.server, world.layout, world.stage(), 0, 1, Part(["first"]))
    publish_part(world.server, world.layout, world.stage(), 0, 1, Part(["second"]))

    assert read_part(world.server, world.layout, 0, 1) == Part(["first"])
    world.run(world.whole)
    assert world.result() == [[0, 10], "first", [20, 25]]


def test_a_value_stands_above_an_error() -> None:
    """Who gathers keeps what it computed of a part that failed elsewhere: stopped, it need not be computed once more."""
    world = World()
    publish_part(world.server, world.layout, world.stage(), 0, 1, Part(error="no good"))
    for nth in 0, 2:
        world.run(world.parts[nth])
    assert are_known(world.server, world.layout, JOB, world.whole)
    assert world.known() == [0, 2]

    @task
    def unmerged(path: Path, attempt: Attempt) -> list[list[int]]:
        return [[attempt.start, attempt.stop]]

    unmerged.merge(lambda values: 1 // 0)
    world.run(world.whole, unmerged)
    assert world.known() == [0, 1, 2]
    assert world.run(world.whole.successor(attempt=2)).done_bytes == 0
    assert world.result() == ALL


def test_a_control_is_the_first_part_and_leaves_nothing() -> None:
    """A large input that has a result shows by a part of it whether a worker is sound."""
    world = World()
    world.run(world.whole)
    asked: list[int] = []

    @task
    def broken(path: Path, attempt: Attempt) -> int:
        asked.append(attempt.start)
        raise ValueError("no good")

    broken.merge(list)
    good = world.mapper(spans).run(world.whole, control=True)
    bad = world.mapper(broken).run(world.whole, control=True)
    part = world.mapper(broken).run(world.parts[2], control=True)

    assert (good.done, good.failures) == (1, [])
    assert (bad.done, [each.error for each, _ in bad.failures]) == (0, ["ValueError: no good"])
    assert (part.done, [each.error for each, _ in part.failures]) == (0, ["ValueError: no good"])
    assert asked == [0, 20]
    assert world.known() == []


@task
def careless(path: Path, attempt: Attempt) -> int:
    """Whatever goes wrong with the values is none of its business."""
    return attempt.start


@careless.merge
def _(values: Iterator[Any]) -> int:
    total = 0
    try:
        for value in values:
            total += value
    except Exception:
        pass
    return total


@pytest.mark.parametrize("gone", [None, errno.EIO])
def test_a_merge_cannot_swallow_that_a_part_is_gone(gone: int | None) -> None:
    """Its input was finished by somebody else, or the mount failed: what it made of the rest is no result."""
    world = World()
    for ticket in world.parts:
        world.run(ticket, careless)
    fs = FaultyFs(world.server)
    reads: list[str] = []

    def lose(called: str, args: tuple[Any, ...]) -> None:
        if called == "read" and args[0] == world.layout.part(0, 1):
            reads.append(args[0])
            if len(reads) > 1:  # the first look is before the merge
                raise OSError(gone, "lost") if gone else FileNotFoundError(args[0])

    fs.before = lose  # type: ignore[method-assign, assignment]
    if gone:
        with pytest.raises(WorkerFault):
            world.run(world.whole, careless, fs)
    else:
        assert world.run(world.whole, careless, fs) == MapReport(stopped_at=0)
    assert not done_ranges(world.server, world.layout, 0)
    assert world.run(world.whole, careless).done == 1
    assert world.result() == 30


def test_a_limit_of_time_is_not_one_for_reading_all_parts() -> None:
    """Each part begins it anew, and so does each value of a merge."""
    world = World()
    for ticket in world.parts:
        world.run(ticket)
    clock, told = world.clock, Told()
    begun: list[float] = []
    told.begin = lambda index: begun.append(clock.now)  # type: ignore[method-assign]
    fs = FaultyFs(world.server)

    def slow(called: str, args: tuple[Any, ...]) -> None:
        if called == "read" and "/parts/" in args[0]:
            clock.advance(10)

    fs.before = slow  # type: ignore[method-assign, assignment]
    world.mapper(spans, fs, told).run(world.whole)

    assert clock.now == 1060
    assert max(later - before for before, later in pairwise([*begun, clock.now])) == 10


# -- planning ---------------------------------------------------------------------------------------------------------


def planned(found: list[tuple[str, int]]) -> tuple[list[Segment], list[Ticket]]:
    """The segments of a plan, and the tickets that it offered."""
    (server, layout), me = memory_tree(), "1" * 32
    for directory in (layout.stage_of(me), layout.work_of(me)):
        server.mkdir(directory)
    stage = Stage(server, layout, me, "p")
    store = RenameStore(server, layout, me, stage)
    Planner(server, layout, JOB, stage, store).plan(found)
    tickets = [ticket for shard in server.names(layout.ready) for ticket in store.waiting(shard)]
    entries = [entry for _, entry in PlanLog(server, layout).entries()]
    return [entry for entry in entries if isinstance(entry, Segment)], sorted(tickets, key=lambda each: each.name)


def test_what_is_larger_has_a_segment_and_parts_of_its_own() -> None:
    """The others share one; what is just as large is not split."""
    segments, tickets = planned([("a", 3), ("large", 25), ("even", 10), ("larger", 41)])

    assert [[each.path for each in segment.inputs] for segment in segments] == [["larger"], ["large"], ["even", "a"]]
    parts = [(each.segment, each.lo, each.size_bytes) for each in tickets if each.kind == "x"]
    assert sorted(parts) == [(0, n, 10 if n < 4 else 1) for n in range(5)] + [
        (1, n, 10 if n < 2 else 5) for n in range(3)
    ]
    assert sorted(each.segment for each in tickets if each.gathers) == [0, 1]
    assert all(each.weight for each in tickets if each.kind == "x" or (each.segment == 2 and each.kind == "m"))


def test_many_parts_are_spread_over_shards() -> None:
    """A listing of one stays small; the next input begins where they end."""
    _, tickets = planned([("large", 10 * 1000), ("small", 5)])
    shards = [sum(each.shard == shard for each in tickets if each.kind in "xm") for shard in range(4)]

    assert sum(shards) == 1002
    assert max(shards) <= 257
    assert min(shards) > 0


# -- tasks ------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\0", b"\n")), st.integers(1, 61))
def test_each_line_is_in_one_part(data: bytes, split: int) -> None:
    """Wherever the cuts are, with or without a newline at the end."""
    path = f"/dev/shm/claimwork-lines-{os.getpid()}"
    Path(path).write_bytes(data)
    seen: list[bytes] = []
    for start in range(0, max(len(data), 1), split):
        attempt = Attempt(1, "x", len(data), Told(), start, min(start + split, len(data)))
        seen += attempt.lines(path)
    os.unlink(path)

    assert seen == data.splitlines(keepends=True) if b"\r" not in data else b"".join(seen) == data
    assert b"".join(seen) == data


TEXTS = st.one_of(
    st.text(alphabet="a \n\u00e4\u3000\u65e5\U0001f600\u2003b", max_size=80).map(str.encode),
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"\xe3", b"\x80", b"\xf0\x9f", b" ", b"a", b"\xe3\x80\x80"]), max_size=30).map(b"".join),
)


@given(TEXTS, st.integers(1, 81))
def test_words_and_letters_are_the_same_in_parts(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, split: int
) -> None:
    """Exactly, at any cut, for text in any script and for bytes that are no text."""
    path = tmp_path_factory.getbasetemp() / f"text-{os.getpid()}"
    path.write_bytes(data)
    for errors in "replace", "strict":
        count = _wordcount(errors)

        def ended(split: int | None, count: Task = count) -> Any:
            try:
                return run_task(count, path, split=split)
            except Exception as error:
                return str(error)

        assert ended(split) == ended(None)


def test_a_task_that_cannot_be_split(tmp_path: Path) -> None:
    """It has no merge, or does not ask what it should do."""
    with pytest.raises(UsageError, match="cannot be split: it needs a merge, and an Attempt"):
        load_task("tests.unit.test_split:planned", splits=True)
    assert load_task("tests.unit.test_split:spans", splits=True) is spans
    (tmp_path / "x").write_bytes(b"x" * 9)
    with pytest.raises(UsageError, match="declares no merge"):
        run_task(lambda path: 1, tmp_path / "x", split=4)
    assert run_task(spans, tmp_path / "x", split=4) == [[0, 4], [4, 8], [8, 9]]
    assert run_task(spans, tmp_path / "x", split=9) == [[0, 9]]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_part_or_an_error(data: bytes) -> None:
    """Of the parser."""
    try:
        records.parse_part(data, "x")
    except RecordError:
        pass
    part = Part({"a": [1, None]}, "why", 1.5)
    assert records.parse_part(records.encode_part(part), "x") == part
