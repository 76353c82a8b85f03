"""Reads the history of a job: done records, notes of failures and last records of workers, some files at a time.

A call goes on where the last one stopped, and what was read is not read again. What is damaged or gone is left out: `check`
finds it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from heapq import nsmallest

from . import records
from .errors import RecordError
from .fs import Fs
from .heartbeat import live_workers, read_beat
from .history import SLOWEST, History
from .layout import Layout
from .names import is_worker, numbers_among, parse_failure
from .plan_log import PlanLog
from .policy import missing_ranges
from .records import Close
from .results import done_ranges, read_done

_MARKS = 300  # failures that are drawn


class HistoryReader:
    """Reads what is new, some files at a time."""

    def __init__(self, fs: Fs, layout: Layout, log: PlanLog) -> None:
        self.history = History()
        self._fs = fs
        self._layout = layout
        self._log = log
        self._counts: dict[int, int] = {}
        self._pending: list[int] = []  # segments to list in this round
        self._records: list[tuple[int, int, int]] = []  # to read
        self._read: dict[int, set[tuple[int, int]]] = {}
        self._full: set[int] = set()
        self._notes: set[str] = set()

    def advance(self, closes: Iterable[tuple[int, Close]], budget: int | None = None) -> bool:
        """Read up to *budget* files and directories (all without one); True when everything known is read."""
        left = budget if budget is not None else 1 << 60
        if not self._pending and not self._records:
            self._counts = {number: count for _, close in closes for number, count, _ in close.segments}
            begun = set(numbers_among(self._fs.names(self._layout.done)))
            self._pending = sorted((begun & self._counts.keys()) - self._full, reverse=True)
            left -= 1
        while left > 0 and (self._pending or self._records):
            left -= 1
            if self._records:
                self._take(*self._records.pop())
            else:
                self._list(self._pending.pop())
        done = not self._pending and not self._records
        if done:
            self._read_workers(left)
            self._read_failures(left)
            self._name_slowest()
            self.history.complete = True
        return done

    def _list(self, number: int) -> None:
        read = self._read.setdefault(number, set())
        ranges = done_ranges(self._fs, self._layout, number)
        self._records += [(number, lo, hi) for lo, hi in ranges if (lo, hi) not in read]
        read.update(ranges)
        if not missing_ranges(self._counts[number], ranges):
            self._full.add(number)
            del self._read[number]

    def _take(self, number: int, lo: int, hi: int) -> None:
        try:
            self.history.add(read_done(self._fs, self._layout, number, lo, hi))
        except (OSError, RecordError):
            pass  # told of above

    def _read_workers(self, budget: int) -> None:
        history = self.history
        names = set(filter(is_worker, self._fs.names(self._layout.left)))
        live = live_workers(self._fs, self._layout)
        fresh = [(self._layout.left_of(each), each, True) for each in sorted(names - history.left)][: max(budget, 64)]
        for path, worker, gone in [*fresh, *((self._layout.live_of(each), each, False) for each in live)]:
            if gone:
                history.left.add(worker)
            record = read_beat(self._fs, path)
            if record is not None:
                history.workers[worker] = record

    def _read_failures(self, budget: int) -> None:
        history = self.history
        failed = 0
        for number in sorted(numbers_among(self._fs.names(self._layout.failures)))[: max(budget, 64)]:
            directory = self._layout.failures_of(number)
            try:
                names = [name for name in self._fs.names(directory) if parse_failure(name) is not None]
            except OSError:
                continue
            failed += len(names)
            for name in names:
                path = f"{directory}/{name}"
                if path in self._notes or len(self._notes) >= _MARKS:
                    continue
                self._notes.add(path)
                try:
                    failure = records.parse_failure(self._fs.read(path, records.SMALL_LIMIT_BYTES), path)
                except (OSError, RecordError):
                    continue
                bisect.insort(history.failures, failure, key=lambda each: each.at)
        history.failed = failed

    def _name_slowest(self) -> None:
        wanted = {(each.segment, each.index) for each in self.history.slowest} - self.history.names.keys()
        for number in nsmallest(SLOWEST, {segment for segment, _ in wanted}):
            try:
                inputs = self._log.segment(number).inputs
            except (OSError, RecordError):
                continue
            for segment, index in wanted:
                if segment == number and index < len(inputs):
                    self.history.names[segment, index] = inputs[index].path
