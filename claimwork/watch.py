"""Watching: looks again and again in a thread of its own, so that whoever shows it never stands still with the mount.

A look that fails or does not return is told as the age of the last one; nothing ends, and the next look that succeeds is shown.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from .clock import Clock
from .errors import ClaimworkError, RecordError
from .snapshot import Snapshot, duration

_LATE_S = 5.0  # a look that takes longer is worth a word


class Reader(Protocol):
    """What can be looked at: `status.StatusReader`."""

    def read(self) -> Snapshot:
        """A fresh snapshot."""


@dataclass(frozen=True)
class View:
    """The last look that succeeded, how many did, and what hinders looking (empty: nothing)."""

    snapshot: Snapshot
    number: int
    notice: str


class Watcher:
    """Looks every *interval_s* from `start` on."""

    def __init__(self, reader: Reader, clock: Clock, interval_s: float, first: Snapshot) -> None:
        self._reader = reader
        self._clock = clock
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._snapshot = first
        self._number = 1
        self._at = clock.monotonic()
        self._asked: float | None = None  # while a look is under way
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)  # it may never return

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Does not wait for a look that is under way."""
        self._stopped.set()

    def wait(self, seen: int, timeout_s: float) -> View:
        """The view as soon as there is a look after number *seen*, at the latest after *timeout_s*."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > seen, timeout_s)
            return View(self._snapshot, self._number, self._notice())

    def _notice(self) -> str:
        now, asked = self._clock.monotonic(), self._asked
        age_s = now - self._at
        if self._error:
            return f"cannot look at the job: {self._error}; this is what it was {duration(age_s)} ago, trying again"
        if asked is not None and now - asked > _LATE_S:
            return f"the mount does not answer; this is what the job was {duration(age_s)} ago"
        return ""

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._asked = self._clock.monotonic()
            try:
                snapshot, error = self._reader.read(), ""
            except OSError as failed:
                snapshot, error = None, (failed.strerror or str(failed)).lower()
            except (ClaimworkError, RecordError) as failed:
                snapshot, error = None, str(failed)
            with self._changed:
                self._error, self._asked = error, None
                if snapshot is not None:
                    self._snapshot, self._at = snapshot, self._clock.monotonic()
                    self._number += 1
                self._changed.notify_all()
