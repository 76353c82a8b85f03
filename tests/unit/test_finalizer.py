"""The finalizer: each input once, in the order of the plan, the same bytes from everybody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from claimwork import policy, records
from claimwork.errors import RecordError
from claimwork.finalizer import ResultReader, read_summary, reduce_generation, show_newest
from claimwork.fs import Fs
from claimwork.plan_log import PlanLog
from claimwork.records import Close, Failure, Input, Job, Outcome, Segment, Summary
from claimwork.results import Places, Stage, adopt, publish, settle, write_done
from claimwork.tasks import Results, count_results
from claimwork.testing import Died, FaultyFs, HookedFs, PausingFs
from tests.conftest import memory_tree

JOB = Job("job", "wordcount")


class World:
    """A job in memory; results are published as a child would."""

    def __init__(self) -> None:
        self.server, self.layout = memory_tree()
        self.stage = self.stage_of(1, self.server)
        self.log = PlanLog(self.server, self.layout)

    def stage_of(self, number: int, fs: Fs) -> Stage:
        self.server.mkdir(self.layout.stage_of(f"{number:032x}"))
        return Stage(fs, self.layout, f"{number:032x}", "f")

    def plan(self, *paths: str, of: tuple[int, int] | None = None) -> int:
        """Add a generation; the number of its close."""
        closes, _ = self.log.closes()
        previous = closes[-1][0] if closes else None
        number = self.log.length()
        inputs = [Input(path, 1, of=of) for path in paths]
        self.log.append(number, Segment(inputs, [(0, len(inputs), 1, 1, 0)], previous), self.stage)
        generation = len(closes) + 1
        close = Close(generation, previous, [(number, len(inputs), len(inputs))], retried=len(inputs) if of else 0)
        self.log.append(number + 1, close, self.stage)
        return number + 1

    def finish(self, segment: int, **results: bytes | None) -> None:
        """Give inputs of a segment their results, or None for quarantine, in the order given; one done record each."""
        inputs = self.log.segment(segment).inputs
        for index, each in enumerate(inputs):
            if each.path not in results:
                continue
            data = results[each.path]
            places = Places.of(self.layout, JOB, segment, index, each)
            if data is None:
                failure = Failure(each.path, segment, index, 3, "exception", "no")
                report = records.encode_quarantine(JOB.id, [failure], each.path, segment, index)
                _, outcome = settle(self.server, self.layout, JOB, places, self.stage.put(report))
            else:
                publish(self.server, self.stage.put(data), places.result, self.layout.out)
                outcome = adopt(self.server, places.result)
            write_done(self.server, self.layout, self.stage, segment, {index: outcome}, [])

    def reduce(
        self, entry: int, reduce: Callable[[Results], Any], fs: Fs | None = None, number: int = 2
    ) -> Summary | None:
        fs = fs or self.server
        return reduce_generation(fs, self.layout, JOB, self.stage_of(number, fs), entry, reduce)

    def shown(self) -> bytes:
        return self.server.read(self.layout.summary_json, 9999)


def pairs(results: Results) -> list[list[Any]]:
    """A reducer that keeps everything."""
    return [[each.input, each.value] for each in results]


@pytest.fixture
def world() -> World:
    """Three inputs: a small value, one too large for a done record, one in quarantine."""
    world = World()
    world.plan("a", "b", "c")
    world.finish(0, c=None, b=b'"' + b"x" * policy.INLINE_BYTES + b'"', a=b'{"n": 1}')
    return world


def test_results_come_in_the_order_of_the_plan(world: World) -> None:
    """From done records or from the files, quarantined ones left out and counted."""
    summary = world.reduce(1, pairs)

    assert summary == Summary(1, 1, 3, 2, 1, [["a", {"n": 1}], ["b", "x" * policy.INLINE_BYTES]])
    assert summary == read_summary(world.server, world.layout, 1)
    assert world.shown() == records.dumps(summary.value) + b"\n"


def test_a_reduction_tells_how_far_it_is(world: World) -> None:
    """After each input, quarantined ones as well: what lasts may be watched."""
    read: list[int] = []
    stage = world.stage_of(2, world.server)
    reduce_generation(world.server, world.layout, JOB, stage, 1, pairs, read.append)

    assert read == [1, 2, 3]


def test_a_reducer_knows_what_is_quarantined(world: World) -> None:
    """Once it has seen all results; the default one counts both."""
    summary = world.reduce(1, count_results)

    assert summary is not None
    assert summary.value == {"inputs": 2, "quarantined": 1}


def test_a_reducer_may_stop_early_or_start_again(world: World) -> None:
    """The counts are of all inputs all the same."""
    early = world.reduce(1, lambda results: next(iter(results)).input)
    assert early == Summary(1, 1, 3, 2, 1, "a")

    def twice(results: Results) -> list[int]:
        return [sum(1 for _ in results), sum(1 for _ in results)]

    world.server.unlink(world.layout.summary(1))
    assert world.reduce(1, twice) == Summary(1, 1, 3, 2, 1, [2, 2])


def test_a_reducer_that_fails_publishes_nothing(world: World) -> None:
    """Its exception passes, and a value that is no JSON is one too."""
    with pytest.raises(ZeroDivisionError):
        world.reduce(1, lambda results: 1 / 0)
    with pytest.raises(ValueError, match="JSON"):
        world.reduce(1, lambda results: float("nan"))

    assert world.server.names(world.layout.summaries) == []
    assert world.server.names(world.layout.stage_of(f"{2:032x}")) == []


def test_recomputing_gives_the_same_bytes(world: World) -> None:
    """Also from records that were cut and ordered otherwise."""
    world.reduce(1, pairs)
    first = world.server.read(world.layout.summary(1), 9999)
    other = World()
    other.plan("a", "b", "c")
    other.finish(0, c=None)
    other.finish(0, b=b'"' + b"x" * policy.INLINE_BYTES + b'"')
    other.finish(0, a=b'{"n": 1}')
    write_done(
        other.server, other.layout, other.stage, 0, {0: Outcome(True, 8, "d", has_value=True, value={"n": 1})}, []
    )
    other.reduce(1, pairs)

    assert other.server.read(other.layout.summary(1), 9999) == first


def test_the_first_summary_stands(world: World) -> None:
    """Reducing again, even by another reducer, changes nothing."""
    first = world.reduce(1, pairs)

    assert world.reduce(1, count_results) == first


def test_bytes_that_are_no_text_have_no_value(world: World) -> None:
    """A command's own format; the reducer sees that there is a result."""
    world.plan("d")
    world.finish(2, d=b"\xff\xfe")

    assert world.reduce(3, pairs) == Summary(2, 3, 4, 3, 1, [["a", {"n": 1}], ["b", "x" * 512], ["d", None]])


def test_a_hole_is_an_error(world: World) -> None:
    """Coverage said otherwise: something was removed."""
    world.plan("d", "e")
    world.finish(2, e=b"1")
    with pytest.raises(RecordError, match="no done record for input 0"):
        world.reduce(3, pairs)


def test_a_retry_replaces_what_was(world: World) -> None:
    """The input counts once, as it ended last; an older generation is not summed up any more."""
    world.plan("c", of=(0, 2))
    world.finish(2, c=b"7")

    assert world.reduce(1, pairs) is None
    assert world.reduce(3, pairs) == Summary(2, 3, 3, 3, 0, [["a", {"n": 1}], ["b", "x" * 512], ["c", 7]])


def test_summaries_of_generations(world: World) -> None:
    """Each stays; summary.json shows the newest, whoever looks last."""
    world.reduce(1, count_results)
    assert world.shown() == b'{"inputs": 2, "quarantined": 1}\n'
    world.plan("d")
    world.finish(2, d=b"1")
    world.reduce(3, count_results)
    world.reduce(1, count_results)

    assert world.shown() == b'{"inputs": 3, "quarantined": 1}\n'
    assert sorted(world.server.names(world.layout.summaries)) == ["000001", "000003"]
    world.server.unlink(world.layout.summary_json)
    show_newest(world.server, world.layout, world.stage)
    assert world.shown() == b'{"inputs": 3, "quarantined": 1}\n'


def test_two_finalizers_at_every_interleaving() -> None:
    """A slow one of the old generation and a quick one of the new: the new one is shown in the end."""
    for stop in range(60):
        world = World()
        world.plan("a")
        world.finish(0, a=b"1")
        pausing = PausingFs(world.server)

        def meanwhile(world: World = world) -> None:
            world.plan("b")
            world.finish(2, b=b"2")
            world.reduce(3, count_results)

        pausing.pause(stop, meanwhile)
        world.reduce(1, count_results, pausing, number=3)
        if pausing.calls <= stop:
            return
        assert world.shown() == b'{"inputs": 2, "quarantined": 0}\n', f"stopped before call {stop}"
    raise AssertionError("reducing makes more calls than this test expects")


def test_a_newer_summary_is_never_set_back() -> None:
    """Whatever call of an old finalizer is executed when a later generation is shown: by it, or when it is lost."""
    for stop in range(60):
        world = World()
        world.plan("a")
        world.finish(0, a=b"1")
        slow = SlowFs(world, stop)
        try:
            world.reduce(1, count_results, slow, number=3)
        except Died:
            pass
        if slow.calls <= stop:
            assert stop > 10
            return
        assert world.shown() == b'{"inputs": 2, "quarantined": 0}\n', f"{slow.late} was executed late"
    raise AssertionError("reducing makes more calls than this test expects")


class SlowFs(HookedFs):
    """A lost finalizer: its call number *at* is executed when another has shown the next generation, and it makes no more."""

    def __init__(self, world: World, at: int) -> None:
        super().__init__(world.server)
        self.calls = 0
        self.late = ""
        self._world = world
        self._at = at

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self.calls += 1
        if self.calls - 1 == self._at:
            self.late = f"{op}{args}"
            self._world.plan("b")
            self._world.finish(2, b=b"2")
            self._world.reduce(3, count_results)
        elif self.calls - 1 > self._at:
            raise Died


@pytest.mark.parametrize("executed", [True, False], ids=["after", "before"])
def test_finalizers_die_at_every_call(executed: bool) -> None:
    """The next one ends with the same bytes."""
    world = World()
    world.plan("a")
    world.finish(0, a=b"1")
    counting = FaultyFs(world.server)
    world.reduce(1, count_results, counting)
    summary = world.server.read(world.layout.summary(1), 9999)
    for at, call in enumerate(counting.calls):
        world.server.unlink(world.layout.summary(1))
        world.server.unlink(world.layout.summary_json)
        dying = FaultyFs(world.server, at, Died(), executed=executed)
        with pytest.raises(Died):
            world.reduce(1, count_results, dying, number=10 + at)
        world.reduce(1, count_results)

        assert world.server.read(world.layout.summary(1), 9999) == summary, f"{call}, call {at}"
        assert world.shown() == b'{"inputs": 1, "quarantined": 0}\n'


def test_a_result_outranks_a_report() -> None:
    """Both may stand after repairs by hand: the input has its result."""
    world = World()
    world.plan("a")
    world.finish(0, a=None)
    reader: Callable[[], ResultReader] = partial(ResultReader, world.server, world.layout, JOB, world.log.closes()[0])
    assert pairs(reader()) == []
    world.server.stage(f"{world.layout.results}/a.json", b"5")

    assert pairs(reader()) == [["a", 5]]
