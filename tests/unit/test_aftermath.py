"""What follows from the end of a child, decided by the worker that gave it its ticket."""

from __future__ import annotations

import time
from typing import Any

import pytest

from claimwork.aftermath import Aftermath, Tally
from claimwork.blame import Blame
from claimwork.coverage import Coverage
from claimwork.executor import Crashed
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.names import map_ticket, part_ticket
from claimwork.news import News, Tell, silent
from claimwork.plan_log import PlanLog
from claimwork.records import BeatRecord, Job
from claimwork.story import Story
from tests.conftest import MakePeer, Peer

ONE_INPUT = map_ticket(shard=0, weight=1, segment=0, lo=0, hi=1, size_bytes=8)
JOB = Job(id="0" * 32, task="wordcount")


def aftermath_of(peer: Peer, fs: Fs, layout: Layout, *, stopping: bool, tell: Tell = silent) -> Aftermath:
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
        Blame(0),
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
