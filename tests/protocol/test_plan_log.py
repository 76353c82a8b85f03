"""The plan as a log on every filesystem: appended to by many, without gaps, each entry once."""

from __future__ import annotations

import errno

import pytest

from claimwork.errors import Fenced, RecordError
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.plan_log import PlanLog
from claimwork.records import Close, Input, Segment
from claimwork.results import Stage
from claimwork.testing import FaultyFs, PausingFs


def segment(name: str, previous: int | None = None) -> Segment:
    """A log entry of one input."""
    return Segment([Input(name, 1)], [(0, 1, 1, 1, 0)], previous)


def stage_of(fs: Fs, layout: Layout, number: int) -> Stage:
    """A planner's stage."""
    fs.mkdir(layout.stage_of(f"{number:032x}"))
    return Stage(fs, layout, f"{number:032x}", "p")


def test_entries_come_back_in_order(mount: tuple[Fs, str], layout: Layout) -> None:
    """What was appended is read, whole and numbered."""
    fs = mount[0]
    log, stage = PlanLog(fs, layout), stage_of(fs, layout, 1)
    entries: list[Segment | Close] = [segment("a"), Close(1, None, [(0, 1, 1)], retried=0), segment("b", previous=1)]
    for number, entry in enumerate(entries):
        assert log.append(number, entry, stage)

    assert list(log.entries()) == list(enumerate(entries))
    assert list(log.entries(2)) == [(2, entries[2])]
    assert log.length() == 3
    assert fs.names(stage.directory) == []


def test_an_entry_is_appended_once(mount: tuple[Fs, str], layout: Layout) -> None:
    """Of two planners that want a number one gets it, at every interleaving."""
    fs = mount[0]
    one, two = stage_of(fs, layout, 1), stage_of(fs, layout, 2)
    for stop in range(10):
        pausing = PausingFs(fs)
        log = PlanLog(pausing, layout)
        results: list[bool] = []

        def meanwhile(stop: int = stop, results: list[bool] = results) -> None:
            results.append(PlanLog(fs, layout).append(stop, segment("two"), two))

        pausing.pause(stop, meanwhile)
        results.append(log.append(stop, segment("one"), Stage(pausing, layout, one.directory[-32:], f"s{stop}")))
        if pausing.calls <= stop:
            return

        winner = "one" if results == [False, True] else "two"
        assert sorted(results) == [False, True]
        assert PlanLog(fs, layout).read(stop) == segment(winner)
    raise AssertionError("append makes more calls than this test expects")


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ENOENT, errno.EIO, errno.ESTALE])
def test_an_append_answered_with_an_error(mount: tuple[Fs, str], layout: Layout, code: int) -> None:
    """At each call that was executed: the entry is there once; mine unless I had to begin anew."""
    fs = mount[0]
    counting = FaultyFs(fs)
    PlanLog(counting, layout).append(0, segment("x"), stage_of(counting, layout, 1))
    number = 0
    for at in range(1, len(counting.calls)):  # 0 is the mkdir of this test
        number += 1
        faulty = FaultyFs(fs, at - 1, OSError(code, "injected"))
        stage = Stage(faulty, layout, f"{1:032x}", f"f{at}")
        for _ in range(3):
            try:
                PlanLog(faulty, layout).append(number, segment("x"), stage)
                break
            except (OSError, Fenced):
                continue

        assert PlanLog(fs, layout).length() == number + 1, counting.calls[at]
        assert PlanLog(fs, layout).read(number) == segment("x")


def test_closes_are_found_by_their_links(mount: tuple[Fs, str], layout: Layout) -> None:
    """Only the last entry, and what is new before it, is read."""
    fs = mount[0]
    stage = stage_of(fs, layout, 1)
    writer = PlanLog(fs, layout)
    reads: list[str] = []
    pausing = PausingFs(fs)
    pausing.before = lambda op, args: reads.append(args[0][-6:]) if op == "read" else None  # type: ignore[method-assign]
    log = PlanLog(pausing, layout)
    assert log.closes() == ([], False)

    first = Close(1, None, [(0, 1, 1)])
    second = Close(2, 1, [(2, 1, 1)])
    writer.append(0, segment("a"), stage)
    assert log.closes() == ([], False)
    writer.append(1, first, stage)
    assert log.closes() == ([(1, first)], True)
    writer.append(2, segment("b", previous=1), stage)
    assert log.closes() == ([(1, first)], False)
    writer.append(3, second, stage)
    assert log.closes() == ([(1, first), (3, second)], True)
    assert PlanLog(fs, layout).closes() == ([(1, first), (3, second)], True)
    assert reads == ["000000", "000001", "000002", "000003"]


def test_what_is_no_entry_is_refused(mount: tuple[Fs, str], layout: Layout) -> None:
    """Damage is named, a number beyond the end is absent, strangers' names are passed over."""
    fs = mount[0]
    log, stage = PlanLog(fs, layout), stage_of(fs, layout, 1)
    log.append(0, Close(1, None, []), stage)
    fs.stage(layout.segment(1), b'{"kind": "inputs"')
    for name in ("x", "0000001", "-00002", "00000٣"):
        fs.stage(f"{layout.plan}/{name}", b"")

    assert log.length() == 2
    with pytest.raises(RecordError):
        log.read(1)
    with pytest.raises(RecordError):
        log.segment(0)
    with pytest.raises(FileNotFoundError):
        log.read(2)
