"""Publishing on every filesystem: one outcome for each input, whatever the replies say and whoever else is at it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial

import pytest

from claimwork import records
from claimwork.errors import Fenced, RecordError
from claimwork.fs import Fs, digest_of
from claimwork.layout import Layout
from claimwork.records import Done, Failure, Input, Job, Outcome
from claimwork.results import (
    Places,
    Stage,
    adopt,
    done_ranges,
    present,
    publish,
    read_done,
    settle,
    settled,
    write_done,
)
from claimwork.testing import Died, FaultyFs, HookedFs, PausingFs

ME, PEER = f"{1:032x}", f"{2:032x}"
JOB = Job("job", "wordcount")
EACH = Input("a/b/c.txt", 3)
FAILURE = Failure(EACH.path, 0, 0, 3, "exception", "ValueError: no", "trace", PEER, "host")
ERRORS = [(errno.EEXIST, True)] + [
    (code, executed) for code in (errno.ENOENT, errno.EIO, errno.ESTALE) for executed in (True, False)
]
ERROR_IDS = [f"{errno.errorcode[code]}{'' if executed else ' not'} executed" for code, executed in ERRORS]
with_errors = pytest.mark.parametrize(("code", "executed"), ERRORS, ids=ERROR_IDS)


def stage_of(fs: Fs, layout: Layout, worker: str = ME) -> Stage:
    """A worker's stage."""
    fs.mkdir(layout.stage_of(worker))
    return Stage(fs, layout, worker, "c")


def report_of(*failures: Failure) -> bytes:
    """A quarantine report of `EACH`."""
    return records.encode_quarantine(JOB.id, failures, EACH.path, 0, 0)


def through(action: Callable[[], object]) -> object:
    """Call until it does not raise an OSError: what a worker and its successors do."""
    for _ in range(3):
        try:
            return action()
        except OSError:
            continue
    raise AssertionError("it did not go through")


def calls_of(fs: Fs, action: Callable[[Fs], object]) -> list[str]:
    """The mutating calls of an action that nothing disturbs."""
    counting = FaultyFs(fs)
    action(counting)
    return counting.calls


def test_publish_makes_parents_and_links(mount: tuple[Fs, str], layout: Layout) -> None:
    """The public name is the staged file itself."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    staged = stage.put(b"one")
    target = f"{layout.results}/a/b/c.json"

    assert publish(fs, staged, target, layout.out)
    assert fs.inode(staged) == fs.inode(target)


def test_the_first_publisher_wins(mount: tuple[Fs, str], layout: Layout) -> None:
    """The second learns that somebody was first and changes nothing."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    target = f"{layout.results}/c.json"
    publish(fs, stage.put(b"one"), target, layout.out)

    assert not publish(fs, stage.put(b"two"), target, layout.out)
    assert fs.read(target, 9) == b"one"


def test_publishing_again_is_publishing_once(mount: tuple[Fs, str], layout: Layout) -> None:
    """A repeated link of one's own file is still one's own."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    staged, target = stage.put(b"one"), f"{layout.results}/c.json"
    publish(fs, staged, target, layout.out)

    assert publish(fs, staged, target, layout.out)


@with_errors
def test_publish_answered_with_an_error(mount: tuple[Fs, str], layout: Layout, code: int, executed: bool) -> None:
    """At each call: the file is there once and known to be mine."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    calls = calls_of(fs, lambda fs: publish(fs, stage.put(b""), f"{layout.results}/x/y.json", layout.out))
    for at, call in enumerate(calls):
        staged, target = stage.put(b"mine"), f"{layout.results}/{at}/y.json"
        faulty = FaultyFs(fs, at, OSError(code, "injected"), executed=executed)

        assert through(lambda: publish(faulty, staged, target, layout.out)) is True, f"{call}, call {at}"  # noqa: B023
        assert fs.read(target, 9) == b"mine"


def test_a_fenced_worker_publishes_nothing(mount: tuple[Fs, str], layout: Layout) -> None:
    """Its staged file is gone, so there is nothing to link, and it learns why."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    staged = stage.put(b"late")
    fs.unlink(staged)
    fs.rmdir(stage.directory)
    with pytest.raises(Fenced):
        publish(fs, staged, f"{layout.results}/c.json", layout.out)
    with pytest.raises(Fenced):
        stage.put(b"later")
    with pytest.raises(Fenced):
        stage.holds(staged)

    assert fs.names(layout.results) == []


def test_a_place_that_is_taken_by_a_directory(mount: tuple[Fs, str], layout: Layout) -> None:
    """Somebody made a directory where the result goes: it is not adopted as a result."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    fs.mkdir(f"{layout.results}/c.json")

    assert not publish(fs, stage.put(b"x"), f"{layout.results}/c.json", layout.out)
    with pytest.raises(RecordError):
        adopt(fs, f"{layout.results}/c.json")


def test_a_place_below_a_file(mount: tuple[Fs, str], layout: Layout) -> None:
    """Somebody made a file where a directory of results goes: an error that lasts is raised."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    fs.stage(f"{layout.results}/a", b"")
    with pytest.raises(NotADirectoryError):
        publish(fs, stage.put(b"x"), f"{layout.results}/a/c.json", layout.out)


def test_a_lasting_error_is_raised(mount: tuple[Fs, str], layout: Layout) -> None:
    """A full disk is not tried five times."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    staged = stage.put(b"x")
    faulty = FaultyFs(fs, 0, OSError(errno.ENOSPC, "injected"), executed=False)
    with pytest.raises(OSError, match="injected"):
        publish(faulty, staged, f"{layout.results}/c.json", layout.out)

    assert faulty.calls == ["link"]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b'{"a": 1}\n', Outcome(True, 9, digest_of(b'{"a": 1}\n'), has_value=True, value={"a": 1})),
        (b"text", Outcome(True, 4, digest_of(b"text"), has_value=True, value="text")),
        (b"\xff", Outcome(True, 1, digest_of(b"\xff"))),
        (b"x" * 513, Outcome(True, 513, digest_of(b"x" * 513))),
        (b"NaN", Outcome(True, 3, digest_of(b"NaN"), has_value=True, value="NaN")),
        (b"[1e999]", Outcome(True, 7, digest_of(b"[1e999]"), has_value=True, value="[1e999]")),
    ],
    ids=["json", "text", "bytes", "large", "NaN", "infinity"],
)
def test_adopted_results_can_stand_in_a_done_record(
    mount: tuple[Fs, str], layout: Layout, data: bytes, outcome: Outcome
) -> None:
    """Size and digest always, the value while small; what JSON cannot say is text, or the record could not be written."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    publish(fs, stage.put(data), f"{layout.results}/c.json", layout.out)

    assert adopt(fs, f"{layout.results}/c.json") == outcome
    write_done(fs, layout, stage, 0, {0: outcome}, [])
    assert read_done(fs, layout, 0, 0, 1).outcomes == [outcome]


def test_present_believes_listings(mount: tuple[Fs, str], layout: Layout) -> None:
    """Absent means that a fresh listing does not show it either."""
    fs = mount[0]
    fs.stage(f"{layout.results}/x", b"")

    assert [present(fs, f"{layout.results}/{name}") for name in ("x", "y", "z/x")] == [True, False, False]


# -- settling ---------------------------------------------------------------------------------------------------------


def outcomes_on_disk(fs: Fs, places: Places) -> list[bool]:
    """Whether there is a result, and whether there is a report."""
    return [present(fs, places.result), present(fs, places.quarantine)]


def test_a_settled_result_stands(mount: tuple[Fs, str], layout: Layout) -> None:
    """Later results and reports are adopted away."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    places = Places.of(layout, JOB, 0, 0, EACH)
    outcome = adopt(fs, stage.put(b"1"))

    assert settled(fs, layout, JOB, places, stage.path()) is None
    assert settle(fs, layout, JOB, places, stage.put(b"1")) == (True, outcome)
    assert settle(fs, layout, JOB, places, stage.put(b"2")) == (False, outcome)
    assert settle(fs, layout, JOB, places, stage.put(report_of(FAILURE))) == (False, outcome)
    assert settled(fs, layout, JOB, places, stage.path()) == outcome
    assert outcomes_on_disk(fs, places) == [True, False]


def test_a_settled_quarantine_stands(mount: tuple[Fs, str], layout: Layout) -> None:
    """A result that comes too late is dropped."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    places = Places.of(layout, JOB, 0, 0, EACH)
    outcome = Outcome(False, reason="ValueError: no")

    assert settle(fs, layout, JOB, places, stage.put(report_of(FAILURE))) == (True, outcome)
    assert settle(fs, layout, JOB, places, stage.put(b"1")) == (False, outcome)
    assert settled(fs, layout, JOB, places, stage.path()) == outcome
    assert outcomes_on_disk(fs, places) == [False, True]


def test_a_request_to_show_a_report_that_comes_late_fails(mount: tuple[Fs, str], layout: Layout) -> None:
    """It was given up with an error. By then a later generation may have a result, and have withdrawn the report."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    places = Places.of(layout, JOB, 0, 0, EACH)
    sent: list[tuple[str, str]] = []
    watched = HookedFs(fs)
    watched.before = lambda op, args: sent.append(args) if op == "link" else None  # type: ignore[method-assign]
    settle(watched, layout, JOB, places, stage.put(report_of(FAILURE)))
    fs.unlink(places.quarantine)

    late = [(source, target) for source, target in sent if target == places.quarantine]
    assert late
    for source, target in late:
        with pytest.raises(FileNotFoundError):
            fs.link(source, target)


def test_a_report_of_another_job_is_a_result(mount: tuple[Fs, str], layout: Layout) -> None:
    """Quarantine reports may be inputs of the next job, and its task may copy them."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    places = Places.of(layout, JOB, 0, 0, EACH)
    other = records.encode_quarantine("other", [FAILURE], EACH.path, 0, 0)

    assert settle(fs, layout, JOB, places, stage.put(other))[1].ok
    assert outcomes_on_disk(fs, places) == [True, False]


def test_a_report_of_many_attempts_is_still_a_report(mount: tuple[Fs, str], layout: Layout) -> None:
    """However often an input was tried, its report stays small enough to be read back as one."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    places = Places.of(layout, JOB, 0, 0, EACH)
    failures = [Failure(EACH.path, 0, 0, nth, "exception", "e" * 1000, "\x01" * 4096) for nth in range(1, 1000)]

    assert settle(fs, layout, JOB, places, stage.put(report_of(*failures))) == (True, Outcome(False, reason="e" * 1000))
    assert outcomes_on_disk(fs, places) == [False, True]


@pytest.mark.parametrize("slow_fails", [True, False])
@pytest.mark.parametrize("act", ["settle", "settled"])
def test_two_settle_one_input_at_every_interleaving(
    mount: tuple[Fs, str], layout: Layout, slow_fails: bool, act: str
) -> None:
    """One has a result, the other a report: both come to the same outcome, and one file stands."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    for stop in range(20):
        places = Places.of(layout, JOB, 0, stop, Input(f"{stop}/x", 1))
        slow, quick = (report_of(FAILURE), b"1") if slow_fails else (b"1", report_of(FAILURE))
        pausing = PausingFs(fs)
        staged, other = stage.put(slow), stage.put(quick)
        theirs: list[Outcome] = []

        def meanwhile(places: Places = places, other: str = other, theirs: list[Outcome] = theirs) -> None:
            theirs.append(settle(fs, layout, JOB, places, other)[1])

        pausing.pause(stop, meanwhile)
        known = settled(pausing, layout, JOB, places, stage.path()) if act == "settled" else None
        outcome = known or settle(pausing, layout, JOB, places, staged)[1]
        if pausing.calls <= stop:
            return

        assert theirs == [outcome], f"stopped before call {stop}"
        assert outcomes_on_disk(fs, places) == [outcome.ok, not outcome.ok]
    raise AssertionError("settle makes more calls than this test expects")


@pytest.mark.parametrize("data", [b"1", report_of(FAILURE)], ids=["result", "report"])
@with_errors
def test_settle_answered_with_an_error(
    mount: tuple[Fs, str], layout: Layout, code: int, executed: bool, data: bytes
) -> None:
    """At each call: tried again, the decision stands and is published."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    spare = Places.of(layout, JOB, 0, 999, Input("spare/x", 1))
    calls = calls_of(fs, lambda fs: settle(fs, layout, JOB, spare, stage.put(data)))
    for at, call in enumerate(calls):
        places = Places.of(layout, JOB, 0, at, Input(f"{at}/x", 1))
        staged = stage.put(data)
        faulty = FaultyFs(fs, at, OSError(code, "injected"), executed=executed)
        through(lambda: settle(faulty, layout, JOB, places, staged))  # noqa: B023 - called in this round only

        ok = data == b"1"
        assert outcomes_on_disk(fs, places) == [ok, not ok], f"{call}, call {at}"


@pytest.mark.parametrize("data", [b"1", report_of(FAILURE)], ids=["result", "report"])
@pytest.mark.parametrize("executed", [True, False])
def test_whoever_settles_dies(mount: tuple[Fs, str], layout: Layout, executed: bool, data: bytes) -> None:
    """At each call: the next owner completes the publication, or decides otherwise when nothing was decided."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    spare = Places.of(layout, JOB, 0, 999, Input("spare/x", 1))
    calls = calls_of(fs, lambda fs: settle(fs, layout, JOB, spare, stage.put(data)))
    for at in range(len(calls)):
        places = Places.of(layout, JOB, 0, at, Input(f"{at}/x", 1))
        staged = stage.put(data)
        try:
            settle(FaultyFs(fs, at, Died(), executed=executed), layout, JOB, places, staged)
        except Died:
            pass
        decided = present(fs, places.settled)
        known = settled(fs, layout, JOB, places, stage.path())

        assert (known is not None) == decided
        outcome = known or settle(fs, layout, JOB, places, stage.put(b"other"))[1]
        assert outcomes_on_disk(fs, places) == [outcome.ok, not outcome.ok]


def test_a_result_without_a_settlement_is_adopted(mount: tuple[Fs, str], layout: Layout) -> None:
    """First attempts publish directly; a second attempt finds that."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    places = Places.of(layout, JOB, 0, 0, EACH)
    publish(fs, stage.put(b"1"), places.result, layout.out)

    assert settled(fs, layout, JOB, places, stage.path()) == adopt(fs, places.result)


# -- done records -----------------------------------------------------------------------------------------------------

OK = Outcome(True, 1, digest_of(b"1"), has_value=True, value=1)
BAD = Outcome(False, reason="ValueError: no")


def test_done_says_one_record_for_each_run(mount: tuple[Fs, str], layout: Layout) -> None:
    """Gaps stay open; the stage is empty afterwards."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    write_done(fs, layout, stage, 7, {3: OK, 4: BAD, 8: OK}, [layout.results])

    assert done_ranges(fs, layout, 7) == [(3, 5), (8, 9)]
    assert read_done(fs, layout, 7, 3, 5) == Done(7, 3, 5, ME, [OK, BAD])
    assert fs.names(stage.directory) == []


def test_a_second_record_of_a_range_changes_nothing(mount: tuple[Fs, str], layout: Layout) -> None:
    """Whoever did the same inputs again finds the record there."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    write_done(fs, layout, stage, 0, {0: OK}, [])
    write_done(fs, layout, stage_of(fs, layout, PEER), 0, {0: OK}, [])

    assert read_done(fs, layout, 0, 0, 1).worker == ME


def test_strangers_among_done_records(mount: tuple[Fs, str], layout: Layout) -> None:
    """Only names of ranges count; none at all is no error."""
    fs = mount[0]
    assert done_ranges(fs, layout, 0) == []
    fs.mkdir(layout.done_of(0))
    for name in ("x", "5-3", "3-3", "01-2", "1-2.json", "0-4"):
        fs.stage(f"{layout.done_of(0)}/{name}", b"")

    assert done_ranges(fs, layout, 0) == [(0, 4)]
    with pytest.raises(RecordError):
        read_done(fs, layout, 0, 0, 4)


def test_a_record_under_another_name_is_refused(mount: tuple[Fs, str], layout: Layout) -> None:
    """What it says and what it is called must agree."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    write_done(fs, layout, stage, 0, {0: OK}, [])
    fs.link(f"{layout.done_of(0)}/0-1", f"{layout.done_of(0)}/1-2")
    with pytest.raises(RecordError):
        read_done(fs, layout, 0, 1, 2)


@with_errors
def test_write_done_answered_with_an_error(mount: tuple[Fs, str], layout: Layout, code: int, executed: bool) -> None:
    """At each call: tried again, or by the next worker after a fence, the records are there."""
    fs, stage = mount[0], stage_of(mount[0], layout)
    outcomes = {0: OK, 1: BAD, 3: OK}
    calls = calls_of(fs, lambda fs: write_done(fs, layout, Stage(fs, layout, ME, "x"), 999, outcomes, []))
    for at, call in enumerate(calls):
        faulty = FaultyFs(fs, at, OSError(code, "injected"), executed=executed)
        act = partial(write_done, faulty, layout, Stage(faulty, layout, ME, f"f{at}"), at, outcomes, [])
        try:
            through(act)
        except Fenced:
            write_done(fs, layout, stage, at, outcomes, [])

        assert done_ranges(fs, layout, at) == [(0, 2), (3, 4)], f"{call}, call {at}"
        assert read_done(fs, layout, at, 0, 2) == Done(at, 0, 2, ME, [OK, BAD])
