"""Watching goes on when the mount does not answer, and says so."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace

import pytest

from claimwork.errors import NotAJob
from claimwork.forecast import Rate
from claimwork.snapshot import Snapshot
from claimwork.testing import ManualClock
from claimwork.watch import Watcher

LIMIT_S = 30.0
FIRST = Snapshot(
    out="/out",
    job_id="j",
    task="task 't'",
    verdict="RUNNING",
    words="3 left",
    exit_code=3,
    generation=1,
    total=3,
    done=0,
    quarantined=0,
    running=0,
    backing_off=0,
    pending=3,
    total_bytes=3,
    done_bytes=0,
    reclaimed=0,
    fenced=0,
    lost=0,
    started_at=0.0,
    at=0.0,
    exact=True,
    rate_1m=Rate(),
    rate_10m=Rate(),
    eta=None,
    median_s=None,
    tail=None,
    live=0,
)


class Mount:
    """What is looked at; each look waits until it is told what to find."""

    def __init__(self) -> None:
        self.answers: list[Snapshot | Exception] = []
        self.asked = threading.Semaphore(0)
        self.answer = threading.Semaphore(0)

    def read(self) -> Snapshot:
        self.asked.release()
        self.answer.acquire()
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def answers_with(self, found: Snapshot | Exception) -> None:
        self.answers.append(found)
        self.answer.release()


def test_a_mount_that_does_not_answer_is_told_after_some_seconds() -> None:
    """The last look stays, with its age; as soon as the mount answers again, the notice is gone."""
    mount, clock = Mount(), ManualClock()
    watcher = Watcher(mount, clock, 0.001, FIRST)
    watcher.start()
    assert mount.asked.acquire(timeout=LIMIT_S)
    assert watcher.wait(0, 0).notice == ""

    clock.advance(40.0)

    view = watcher.wait(1, 0.001)
    assert (view.number, view.snapshot) == (1, FIRST)
    assert view.notice == "the mount does not answer; this is what the job was 40 s ago"
    mount.answers_with(later := replace(FIRST, done=1, pending=2))
    view = watcher.wait(1, LIMIT_S)
    assert (view.number, view.snapshot, view.notice) == (2, later, "")
    watcher.stop()
    mount.answers_with(later)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), "stale file handle"),
        (NotAJob("'/out' is not a job"), "'/out' is not a job"),
    ],
    ids=["stale", "gone"],
)
def test_a_look_that_fails_is_told_and_repeated(error: Exception, words: str) -> None:
    """An error ends nothing."""
    mount, clock = Mount(), ManualClock()
    watcher = Watcher(mount, clock, 0.001, FIRST)
    watcher.start()
    clock.advance(3.0)
    mount.answers_with(error)
    assert mount.asked.acquire(timeout=LIMIT_S)
    assert mount.asked.acquire(timeout=LIMIT_S)  # it looks again

    view = watcher.wait(1, 0.001)
    assert view.notice == f"cannot look at the job: {words}; this is what it was 3.0 s ago, trying again"
    assert view.snapshot == FIRST
    mount.answers_with(FIRST)
    assert watcher.wait(1, LIMIT_S).notice == ""
    watcher.stop()
    mount.answers_with(FIRST)
