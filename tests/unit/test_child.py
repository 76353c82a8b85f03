"""What a child does with a range: on a filesystem in memory, with a runner that does as it is told."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from claimwork import policy
from claimwork.child import Mapper, MapReport
from claimwork.effort import Effort
from claimwork.errors import Fenced, WorkerFault
from claimwork.fs import Fs, digest_of
from claimwork.names import Ticket, map_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import Failure, Input, Job, Outcome, Segment, encode_quarantine
from claimwork.results import Places, Stage, done_ranges, publish, read_done, settle
from claimwork.tasks import Attempt, CommandFailed, GiveUp, PythonRunner, Results, Task, count_results
from claimwork.testing import Died, FaultyFs, ManualClock
from tests.conftest import Told, memory_tree

JOB = Job("job", "wordcount")
PATHS = ["a", "d/b", "d/c", "e"]
TICKET = map_ticket(0, 1, 0, 0, 4, 4)
AGAIN = TICKET.successor(attempt=2)


class Scripted:
    """A runner: what it does with each input is written down."""

    reduce: Callable[[Results], Any] = staticmethod(count_results)

    def __init__(self, **script: bytes | Exception) -> None:
        self.script = script
        self.ran: list[str] = []

    def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
        self.ran.append(attempt.input)
        found = self.script.get(attempt.input[-1], b'"' + attempt.input.encode() + b'"')
        if isinstance(found, Exception):
            raise found
        return found

    def value(self, path: str, attempt: Attempt) -> Any:
        raise AssertionError("no input here is large")

    def merged(self, values: Iterator[Any]) -> bytes:
        raise AssertionError("no input here is large")


class World:
    """A job of four inputs."""

    def __init__(self, job: Job = JOB) -> None:
        self.server, self.layout = memory_tree("ext4")
        self.job = job
        self.stage = self.stage_of(1)
        segment = Segment([Input(path, 1) for path in PATHS], [(0, 4, 4, 1, 0)])
        PlanLog(self.server, self.layout).append(0, segment, self.stage)

    def stage_of(self, number: int, fs: Fs | None = None) -> Stage:
        self.server.mkdir(self.layout.stage_of(f"{number:032x}"))
        return Stage(fs or self.server, self.layout, f"{number:032x}", "c0")

    def run(
        self, runner: Scripted, ticket: Ticket = TICKET, fs: Fs | None = None, number: int = 2, stop: int = 999
    ) -> MapReport:
        fs = fs or self.server
        stage = self.stage_of(number, fs)
        return Mapper(fs, self.layout, self.job, stage, "/in", runner, ManualClock(), Told(stop)).run(ticket)

    def done(self) -> dict[int, Outcome]:
        return {
            lo + nth: outcome
            for lo, hi in done_ranges(self.server, self.layout, 0)
            for nth, outcome in enumerate(read_done(self.server, self.layout, 0, lo, hi).outcomes)
        }

    def results(self) -> dict[str, bytes]:
        return {
            path: self.server.read(f"/out/results/{path}.json", 999)
            for path in PATHS
            if self.server.inode(f"/out/results/{path}.json") is not None
        }


def outcome_of(path: str) -> Outcome:
    """What the scripted runner makes of an input."""
    data = f'"{path}"'.encode()
    return Outcome(True, len(data), digest_of(data), has_value=True, value=path)


def test_a_range_is_done() -> None:
    """Each input has its result, one record says so, the stage is empty."""
    world, runner = World(), Scripted()
    report = world.run(runner)

    assert report == MapReport(stopped_at=4, done=4, done_bytes=4)
    assert runner.ran == PATHS
    assert world.results() == {path: f'"{path}"'.encode() for path in PATHS}
    assert world.done() == {index: outcome_of(path) for index, path in enumerate(PATHS)}
    assert world.server.names(world.layout.stage_of(f"{2:032x}")) == []


def test_a_child_stops_where_it_is_told() -> None:
    """What it finished is done, the rest not begun."""
    world = World()

    assert world.run(Scripted(), stop=2) == MapReport(stopped_at=2, done=2, done_bytes=2)
    assert done_ranges(world.server, world.layout, 0) == [(0, 2)]


def test_failures_are_reported_and_left_out() -> None:
    """The others are done; a worker decides what follows."""
    world = World()
    report = world.run(Scripted(b=ValueError("no\ngood"), c=GiveUp("too short"), e=CommandFailed("'x' exited with 3")))

    assert [(each.index, each.attempt, each.kind, each.error, final) for each, final in report.failures] == [
        (1, 1, "exception", "ValueError: no good", False),
        (2, 1, "gave_up", "too short", True),
        (3, 1, "exception", "'x' exited with 3", False),
    ]
    assert "ValueError: no\ngood" in report.failures[0][0].detail
    assert done_ranges(world.server, world.layout, 0) == [(0, 1)]


def test_a_second_attempt_adopts_what_is_there() -> None:
    """Results without a record, from a worker that died between the two; nothing is run again."""
    world = World()
    other = world.stage_of(7)
    publish(world.server, other.put(b'"d/b"'), "/out/results/d/b.json", "/out")
    runner = Scripted()
    report = world.run(runner, AGAIN)

    assert report == MapReport(stopped_at=4, done=4, done_bytes=4, adopted=1)
    assert runner.ran == ["a", "d/c", "e"]
    assert world.done() == {index: outcome_of(path) for index, path in enumerate(PATHS)}


def test_a_second_attempt_passes_over_what_is_done() -> None:
    """By the records."""
    world = World()
    world.run(Scripted(), stop=3)
    runner = Scripted()

    assert world.run(runner, AGAIN) == MapReport(stopped_at=4, done=1, done_bytes=1)
    assert runner.ran == ["e"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_quarantine_that_was_settled_stands(when: str) -> None:
    """A result that comes late is dropped, also where no result was ever published in that directory."""
    world = World()
    stage = world.stage_of(7)

    def quarantine() -> None:
        places = Places.of(world.layout, JOB, 0, 1, Input("d/b", 1))
        failure = Failure("d/b", 0, 1, 3, "exception", "no")
        settle(world.server, world.layout, JOB, places, stage.put(encode_quarantine(JOB.id, [failure], "d/b", 0, 1)))

    class Late(Scripted):
        def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
            quarantine()
            return super().run(path, attempt, staged)

    runner: Scripted = Late()
    if when == "before":
        quarantine()
        runner = Scripted()
    report = world.run(runner, AGAIN.successor(lo=1, hi=2))

    assert report == MapReport(stopped_at=2, adopted=1)
    assert world.done() == {1: Outcome(False, reason="no")}
    assert world.results() == {}


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_place_that_is_taken_is_a_final_failure(attempt: int) -> None:
    """Somebody made a directory where the result goes, or a file where its directory goes: the others are done."""
    world = World()
    world.server.mkdir("/out/results/a.json")
    world.server.stage("/out/results/d", b"")
    report = world.run(Scripted(), TICKET.successor(attempt=attempt))

    assert [(each.index, final) for each, final in report.failures] == [(0, True), (1, True), (2, True)]
    assert world.done() == {3: outcome_of("e")}


def test_results_are_published_in_groups() -> None:
    """Quick inputs share a flush; slow ones do not wait for each other."""
    world, clock = World(), ManualClock()
    flushes: list[int] = []
    fs = FaultyFs(world.server)
    fs.before = lambda op, args: flushes.append(len(args[0])) if op == "flush" else None  # type: ignore[method-assign]
    Mapper(fs, world.layout, JOB, world.stage_of(2, fs), "/in", Scripted(), clock, Told()).run(TICKET)
    assert flushes == [4, 3]  # the results; the record and the two directories

    class Slow(Scripted):
        def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
            clock.advance(policy.PUBLISH_GROUP_S)
            return super().run(path, attempt, staged)

    flushes.clear()
    Mapper(fs, world.layout, JOB, world.stage_of(3, fs), "/in", Slow(), clock, Told()).run(TICKET)
    assert flushes[:4] == [1, 1, 1, 1]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_charges_nobody(code: int) -> None:
    """At each call: the worker is told, no input fails, and the next worker finishes."""
    world = World()
    counting = FaultyFs(world.server)
    world.run(Scripted(), fs=counting)
    for at, call in enumerate(counting.calls):
        world = World()
        if call in ("unlink", "rmdir"):
            continue
        with pytest.raises(WorkerFault, match="/out"):
            world.run(Scripted(), fs=FaultyFs(world.server, at, OSError(code, "injected"), executed=False))
        world.run(Scripted(), AGAIN, number=3)

        assert world.done() == {index: outcome_of(path) for index, path in enumerate(PATHS)}, f"{call}, call {at}"


@pytest.mark.parametrize("executed", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("ticket", [TICKET, AGAIN], ids=["first", "second"])
def test_children_die_at_every_call(ticket: Ticket, executed: bool) -> None:
    """The next attempt ends with the same results and with records of all of them."""
    world = World()
    counting = FaultyFs(world.server)
    world.run(Scripted(), ticket, counting)
    for at, call in enumerate(counting.calls):
        world = World()
        try:
            world.run(Scripted(), ticket, FaultyFs(world.server, at, Died(), executed=executed))
        except Died:
            pass
        world.run(Scripted(), ticket.successor(attempt=ticket.attempt + 1), number=3)

        assert world.results() == {path: f'"{path}"'.encode() for path in PATHS}, f"{call}, call {at}"
        assert world.done() == {index: outcome_of(path) for index, path in enumerate(PATHS)}


def test_a_fenced_child_does_nothing_more() -> None:
    """Its stage went while the task ran."""
    world = World()

    class Fencing(Scripted):
        def run(self, path: str, attempt: Attempt, staged: str) -> bytes | None:
            world.server.rmdir(world.layout.stage_of(f"{2:032x}"))
            return super().run(path, attempt, staged)

    with pytest.raises(Fenced):
        world.run(Fencing())
    assert (world.results(), world.done()) == ({}, {})


def test_a_worker_with_the_wrong_mount_charges_nobody(tmp_path: Path) -> None:
    """None of the planned inputs is there: the mount is to blame; once one was seen, the input is."""
    world = World()
    told = Told()

    def mapper() -> Mapper:
        runner = Scripted(a=FileNotFoundError(errno.ENOENT, "No such file", f"{tmp_path}/a"))
        return Mapper(world.server, world.layout, JOB, world.stage_of(2), str(tmp_path), runner, ManualClock(), told)

    (tmp_path / "unplanned").write_text("")
    with pytest.raises(WorkerFault, match="wrong directory"):
        mapper().run(TICKET)
    assert world.done() == {}

    (tmp_path / "e").write_text("")
    report = mapper().run(TICKET)
    assert [(each.index, each.kind, each.error) for each, _ in report.failures] == [
        (0, "unreadable", "cannot read the input: no such file")
    ]
    assert sorted(world.done()) == [1, 2, 3]


def test_an_error_that_cannot_be_told() -> None:
    """An exception whose words raise another is a failed attempt like any other."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    report = World().run(Scripted(b=Mute()))

    assert [(each.index, each.kind) for each, _ in report.failures] == [(1, "exception")]
    assert report.done == 3


def test_a_report_keeps_what_it_says_on_its_way_to_the_worker() -> None:
    """Through JSON and back; and a hundred inputs that went well take no more of it than one."""
    failure = Failure("a", 0, 1, 2, "exception", "ValueError: no", "detail", "w", "h", 1.5)
    few = MapReport(1, 1, 7, 1, 0, [(failure, True)], Effort.of([(7, 0.5)]))
    many = MapReport(100, 100, 700, 1, 1, [(failure, True)], Effort.of([(7, 0.5)] * 100))
    for report in (few, many):
        back = MapReport.from_json(json.loads(json.dumps(report.to_json())))
        assert back == report
        assert (back.effort.count, back.effort.spread) == (report.effort.count, report.effort.spread)
        assert back.effort.took_s == report.effort.took_s
        assert back.effort.fit() is not None
    assert len(json.dumps(many.to_json())) < len(json.dumps(few.to_json())) + 100  # digits


@pytest.mark.parametrize("paths", [["/a", "/b", "/c/d", "/e"], ["in/a", "in/d/b", "in/d/c", "in/e"], ["a", "b"]])
def test_a_task_is_given_the_path_of_its_input_whatever_came_before(paths: list[str]) -> None:
    """The directory of the input before is remembered, and must not be taken for that of the next one."""
    given: list[Path] = []
    runner = PythonRunner(Task(given.append))
    for path in paths:
        runner.run(path, Attempt(1, path, 1, Told()), "staged")
    assert given == [Path(path) for path in paths]
    assert [str(path) for path in given] == paths
