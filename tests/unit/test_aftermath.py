"""What follows from the end of a child, decided by the worker that gave it its ticket."""

from __future__ import annotations

import time

import pytest

from claimwork.aftermath import Aftermath, Tally
from claimwork.blame import Blame
from claimwork.child import MapReport
from claimwork.coverage import Coverage
from claimwork.executor import Crashed, Finished
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.names import map_ticket, part_ticket
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Job
from tests.conftest import MakePeer, Peer

ONE_INPUT = map_ticket(shard=0, weight=1, segment=0, lo=0, hi=1, size_bytes=8)
JOB = Job(id="0" * 32, task="wordcount")


def aftermath_of(peer: Peer, fs: Fs, layout: Layout, *, stopping: bool, limit: int = 0) -> Aftermath:
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
        lambda _line: None,
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
