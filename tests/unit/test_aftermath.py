"""What follows from the end of a child, decided by the worker that gave it its ticket."""

from __future__ import annotations

import time
from typing import Any

import pytest

from claimwork import records
from claimwork.aftermath import Aftermath, Tally
from claimwork.blame import Blame
from claimwork.child import MapReport
from claimwork.coverage import Coverage
from claimwork.executor import Crashed, Finished
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.names import map_ticket, part_ticket
from claimwork.news import News, Tell, silent
from claimwork.parts import known_parts, publish_part
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Failure, Input, Job, Part, Segment
from claimwork.results import Places, settle, write_done
from claimwork.story import Story
from tests.conftest import MakePeer, Peer

ONE_INPUT = map_ticket(shard=0, weight=1, segment=0, lo=0, hi=1, size_bytes=8)
JOB = Job(id="0" * 32, task="wordcount")


def aftermath_of(
    peer: Peer, fs: Fs, layout: Layout, *, stopping: bool, limit: int = 0, tell: Tell = silent
) -> Aftermath:
    """What decides for *peer*."""
    coverage = Coverage(fs, layout, PlanLog(fs, layout))
    me = BeatRecord(peer.id, 0, boot="", host="h", started_at=time.time())
    return Aftermath(
        fs,
        layout,
        JOB,
        peer.stage,
        peer.claims,
        coverage,
        peer.clock,
        me,
        Tally(),
        Blame(limit),
        Story(tell, peer.id),
        lambda: stopping,
    )


@pytest.mark.parametrize(("stopping", "attempt"), [(False, 2), (True, 1)])
def test_a_child_that_ends_between_two_inputs_while_its_worker_stops_costs_no_attempt(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer, attempt: int, *, stopping: bool
) -> None:
    """Whatever signals a worker may signal its children too: a planned stop is never charged."""
    alice = peer(1)
    alice.store.offer(ONE_INPUT)
    assert alice.claims.next(lambda _: True) == ONE_INPUT

    ended = Crashed(0, ONE_INPUT, "crash", "ended by SIGKILL", "", index=None)
    aftermath_of(alice, mount[0], layout, stopping=stopping).of(ended)

    again = peer(2).claims.next(lambda _: True)
    assert again is not None
    assert (again.lo, again.hi, again.attempt) == (0, 1, attempt)


@pytest.mark.parametrize(("waiting", "ranges"), [(0, [(5, 8), (8, 11)]), (400, [(5, 11)])])
def test_a_ticket_that_lasts_is_given_back_whole_while_many_wait(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer, waiting: int, ranges: list[tuple[int, int]]
) -> None:
    """Nobody lacks work then, and pieces that nobody needs make listings of thousands; otherwise others are to have some."""
    alice, long = peer(1), map_ticket(shard=0, weight=9, segment=0, lo=0, hi=11, size_bytes=88)
    alice.store.offer(long)
    for nth in range(waiting):
        mount[0].stage(layout.ready_ticket(map_ticket(0, 5, 1, nth, nth + 1, 8)), b"")
    assert alice.claims.next(lambda _: True) == long

    aftermath = aftermath_of(alice, mount[0], layout, stopping=False)
    aftermath.shedding.add(long.name)
    aftermath.of(Finished(0, long, MapReport(stopped_at=5, done=5)))

    assert sorted((each.lo, each.hi) for each in alice.claims.ready() if each.segment == 0) == ranges


@pytest.mark.parametrize(("part_bytes", "sound"), [(8, True), (0, False)])
def test_a_part_that_was_computed_here_shows_that_the_worker_is_sound(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer, part_bytes: int, *, sound: bool
) -> None:
    """A worker that computes part after part is not to blame for inputs that fail; one that fails them shows nothing."""
    alice = peer(1)
    part = part_ticket(shard=0, weight=1, segment=0, nth=0, size_bytes=8)
    alice.store.offer(part)
    assert alice.claims.next(lambda _: True) == part

    aftermath = aftermath_of(alice, mount[0], layout, stopping=False, limit=8)
    aftermath.of(Finished(0, part, MapReport(stopped_at=1, done_bytes=part_bytes)))

    assert aftermath.blame.sound is sound
    assert alice.claims.ready() == []


@pytest.mark.parametrize(("gathered", "sound"), [(0, True), (1, False)])
def test_to_gather_what_others_computed_shows_nothing(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer, gathered: int, *, sound: bool
) -> None:
    """A worker whose image is broken can do that, and would then be trusted to fail every input."""
    alice = peer(1)
    alice.store.offer(ONE_INPUT)
    assert alice.claims.next(lambda _: True) == ONE_INPUT

    aftermath = aftermath_of(alice, mount[0], layout, stopping=False, limit=8)
    aftermath.of(Finished(0, ONE_INPUT, MapReport(stopped_at=1, done=1, gathered=gathered)))

    assert aftermath.blame.sound is sound


def part_failed(alice: Peer, fs: Fs, layout: Layout, aftermath: Aftermath) -> None:
    """A part of the input in segment 0 fails under *alice*."""
    PlanLog(fs, layout).append(0, Segment([Input("large", 16)], [(0, 1, 16, 0, 0)]), alice.stage)
    part = part_ticket(shard=0, weight=1, segment=0, nth=0, size_bytes=8)
    alice.store.offer(part)
    assert alice.claims.next(lambda _: True) == part
    failure = Failure("large", 0, 0, 1, "exception", "no such library")
    aftermath.of(Finished(0, part, MapReport(stopped_at=1, failures=[(failure, False)])))


def control_ended(aftermath: Aftermath, *, ok: bool) -> None:
    """The control that it asks for ends."""
    control = aftermath.next_control()
    assert control == part_ticket(0, 0, 0, 1, 0)
    failures = [] if ok else [(Failure("large", 0, 0, 1, "exception", "no such library"), False)]
    aftermath.of(Finished(0, control, MapReport(stopped_at=2, done=int(ok), failures=failures)))


def test_a_broken_worker_spoils_no_parts(mount: tuple[Fs, str], layout: Layout, peer: MakePeer) -> None:
    """Where somebody has a value of a part, it runs that one as a control, fails, and stops with its part in hand."""
    alice, fs = peer(1), mount[0]
    aftermath = aftermath_of(alice, fs, layout, stopping=False, limit=8)
    publish_part(fs, layout, alice.stage, 0, 1, Part([1]))
    part_failed(alice, fs, layout, aftermath)

    assert aftermath.holds_parts
    for _ in range(2):
        assert aftermath.fault is None
        control_ended(aftermath, ok=False)
    assert "last 'large' with no such library" in str(aftermath.fault)
    assert not known_parts(fs, layout, 0).failed
    assert len(alice.store.held()) == 1


@pytest.mark.parametrize("has_control", [True, False])
def test_a_part_that_fails_is_given_up(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer, *, has_control: bool
) -> None:
    """By a worker whose control succeeds; and at once where there is none, for somebody has to go on."""
    alice, fs = peer(1), mount[0]
    aftermath = aftermath_of(alice, fs, layout, stopping=False, limit=8)
    if has_control:
        publish_part(fs, layout, alice.stage, 0, 1, Part([1]))
    part_failed(alice, fs, layout, aftermath)
    if has_control:
        control_ended(aftermath, ok=True)

    assert not aftermath.holds_parts
    assert known_parts(fs, layout, 0).failed == {0}
    assert alice.store.held() == []


def test_a_part_that_ends_its_child_is_told(mount: tuple[Fs, str], layout: Layout, peer: MakePeer) -> None:
    """By its number, since it may be the input's fault; nobody is charged yet."""
    part = part_ticket(shard=0, weight=1, segment=0, nth=3, size_bytes=8)
    told: list[tuple[News, dict[str, Any]]] = []
    alice = peer(1)
    alice.store.offer(part)
    assert alice.claims.next(lambda _: True) == part

    ended = Crashed(0, part, "crash", "killed by SIGSEGV", "", index=3)

    def tell(news: News, words: str, **facts: Any) -> None:
        told.append((news, facts))

    aftermath_of(alice, mount[0], layout, stopping=False, tell=tell).of(ended)

    facts = {"worker": alice.id, "part": 3, "error": "killed by SIGSEGV", "ticket": part.name, "attempt": 1}
    assert told == [(News.PART_GIVEN_UP, facts)]


def test_a_result_that_was_published_takes_its_old_report_away_also_when_its_owners_are_lost(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer
) -> None:
    """The input was planned again; whoever published its result was killed before it withdrew the report, as were the others."""
    fs, alice = mount[0], peer(1)
    log = PlanLog(fs, layout)
    log.append(0, Segment([Input("a", 8, None, (7, 0))], [(0, 1, 8, 1, 0)]), alice.stage)
    lost = ONE_INPUT.successor(attempt=4)
    alice.store.offer(lost)
    assert alice.claims.next(lambda _: True) == lost
    fs.stage(f"{layout.results}/a.json", b"1\n")
    fs.stage(f"{layout.quarantine}/a.json", b"{}")

    aftermath = aftermath_of(alice, fs, layout, stopping=False)
    aftermath.fail(lost, "lost", "each worker that ran it was lost", "", final=True)

    assert fs.names(layout.results) == ["a.json"]
    assert fs.names(layout.quarantine) == []
    assert aftermath.tally.quarantined == 0
    assert fs.names(layout.done_of(0)) == ["0-1"]


def test_a_ticket_that_outlived_its_inputs_decides_nothing(
    mount: tuple[Fs, str], layout: Layout, peer: MakePeer
) -> None:
    """Its worker died between done record and drop; the input was retried since, and has a result."""
    alice, fs = peer(1), mount[0]
    PlanLog(fs, layout).append(0, Segment([Input("a", 8)], [(0, 1, 8, 1, 0)]), alice.stage)
    lost = ONE_INPUT.successor(attempt=4)
    alice.store.offer(lost)
    assert alice.claims.next(lambda _: True) == lost
    failure = Failure("a", 0, 0, 3, "exception", "no")
    report = records.encode_quarantine(JOB.id, [failure], "a", 0, 0)
    places = Places.of(layout, JOB, 0, 0, Input("a", 8))
    _, outcome = settle(fs, layout, JOB, places, alice.stage.put(report))
    write_done(fs, layout, alice.stage, 0, {0: outcome}, [])
    fs.unlink(places.quarantine)  # as whoever settles the retried input does
    fs.stage(places.result, b"1")

    aftermath = aftermath_of(alice, fs, layout, stopping=False)
    aftermath.fail(lost, "lost", "each worker that ran it was lost", "", final=True)

    assert fs.names(layout.quarantine) == []
    assert (aftermath.tally.failed, aftermath.tally.quarantined) == (0, 0)
    assert alice.claims.ready() == alice.store.held() == []
