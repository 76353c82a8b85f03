"""History: what ran, where, when and how long, from done records, notes of failures and last records of workers.

`HistoryReader.advance` reads a bounded number of files and goes on there at the next call; `History.to_json` is the document
that pages draw from, a few hundred numbers whatever the size of the job. Times are wall clocks of the workers, for people.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from random import Random
from typing import Any

from . import records
from .errors import RecordError
from .fs import Fs
from .heartbeat import live_workers
from .layout import Layout
from .names import is_worker, parse_failure, parse_number
from .plan_log import PlanLog
from .records import BeatRecord, Close, Failure
from .results import done_ranges, read_done

SCHEMA = 1
_BUCKETS = 200  # of a throughput curve, at most
_ROWS = 40  # workers that get a row of their own
_SPANS = 200  # bars of one row, at most: what lies closer than a bar is drawn as one
_POINTS = 800  # of size against duration, a fair sample
_SLOWEST = 15
_MARKS = 300  # failures that are drawn


@dataclass(frozen=True, slots=True)
class Slow:
    """One execution that took long."""

    took_s: float
    segment: int
    index: int
    input_bytes: int
    began_at: float
    worker: str


@dataclass
class _Row:
    inputs: int = 0
    bytes: int = 0
    took_s: float = 0.0
    spans: list[tuple[float, float, int]] = field(default_factory=list)


@dataclass
class History:
    """What was read so far."""

    rows: dict[str, _Row] = field(default_factory=dict)
    workers: dict[str, BeatRecord] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    slowest: list[Slow] = field(default_factory=list)
    names: dict[tuple[int, int], str] = field(default_factory=dict)
    points: list[tuple[int, float, str]] = field(default_factory=list)
    seen: int = 0
    untimed: int = 0
    curve: Counter[int] = field(default_factory=Counter)
    curve_bytes: Counter[int] = field(default_factory=Counter)
    width_s: float = 1.0
    first_at: float = float("inf")
    last_at: float = 0.0
    longest_s: float = 0.0
    complete: bool = False
    _rng: Random = field(default_factory=lambda: Random(0))  # the same sample each time

    def add(self, done: records.Done) -> None:
        """Take in one done record."""
        row = self.rows.setdefault(done.worker, _Row())
        began, ended, count = float("inf"), 0.0, 0
        for index, outcome in enumerate(done.outcomes, done.lo):
            ran = outcome.ran
            if ran is None:
                self.untimed += outcome.ok
                continue
            end = ran.began_at + ran.took_s
            began, ended, count = min(began, ran.began_at), max(ended, end), count + 1
            row.inputs += 1
            row.bytes += ran.input_bytes
            row.took_s += ran.took_s
            self._sample(ran.input_bytes, ran.took_s, done.worker)
            self._note_end(end, ran.input_bytes)
            if len(self.slowest) < _SLOWEST or ran.took_s > self.slowest[-1].took_s:
                slow = Slow(ran.took_s, done.segment, index, ran.input_bytes, ran.began_at, done.worker)
                self.slowest = nlargest(_SLOWEST, [*self.slowest, slow], key=lambda each: each.took_s)
            self.longest_s = max(self.longest_s, ran.took_s)
        if count:
            self.first_at, self.last_at = min(self.first_at, began), max(self.last_at, ended)
            row.spans.append((began, ended, count))
            if len(row.spans) > 4 * _SPANS:
                row.spans = joined(row.spans, (self.last_at - self.first_at) / _SPANS)

    def _sample(self, size: int, took_s: float, worker: str) -> None:
        self.seen += 1
        point = (size, took_s, worker)
        if len(self.points) < _POINTS:
            self.points.append(point)
        elif (at := self._rng.randrange(self.seen)) < _POINTS:
            self.points[at] = point

    def _note_end(self, at: float, size: int) -> None:
        self.curve[int(at // self.width_s)] += 1
        self.curve_bytes[int(at // self.width_s)] += size
        while self.curve and max(self.curve) - min(self.curve) >= _BUCKETS and self.width_s < 1e6:
            self.width_s *= 2
            for name in ("curve", "curve_bytes"):
                wider: Counter[int] = Counter()
                for bucket, count in getattr(self, name).items():
                    wider[bucket // 2] += count
                setattr(self, name, wider)

    # -- what pages draw ----------------------------------------------------------------------------------------------

    def balance(self) -> dict[str, Any] | None:
        """How well the work was spread: from the first start to the last end, against what so many slots could have done."""
        if self.first_at >= self.last_at:
            return None
        busy = sum(row.took_s for row in self.rows.values())
        bound = max(self._bound_s(busy), self.longest_s)
        makespan = self.last_at - self.first_at
        return {
            "makespan_s": round(makespan, 3),
            "lower_bound_s": round(min(bound, makespan), 3),
            "busy_s": round(busy, 3),
            "longest_s": round(self.longest_s, 3),
            "slots": max((count for _, _, count in self._steps()), default=0),
        }

    def _bound_s(self, busy: float) -> float:
        """How long the slots that were there, when they were, would have taken for *busy* seconds of work without a gap."""
        at, slots = self.first_at, 0
        for moment, _, then in self._steps():
            if moment > at:
                if slots and busy <= slots * (moment - at):
                    return at + busy / slots - self.first_at
                busy -= slots * (moment - at)
                at = moment
            slots = then
        return at + (busy / slots if slots else 0.0) - self.first_at

    def _steps(self) -> list[tuple[float, int, int]]:
        """When workers that ran something came and went: the time, workers and slots from then on."""
        changes: Counter[float] = Counter()
        slots: Counter[float] = Counter()
        for worker, row in self.rows.items():
            record = self.workers.get(worker)
            if not row.spans:
                continue
            began = min(span[0] for span in row.spans)
            ended = max(span[1] for span in row.spans)
            count = 1 if record is None else record.slots
            if record is not None:
                began = min(began, record.started_at) if record.started_at else began
                ended = max(ended, record.at)
            changes[began] += 1
            slots[began] += count
            changes[ended] -= 1
            slots[ended] -= count
        steps, workers, there = [], 0, 0
        for moment in sorted(changes):
            workers += changes[moment]
            there += slots[moment]
            steps.append((moment, workers, there))
        return steps

    def to_json(self) -> dict[str, Any]:
        """The document; seconds count from ``from``."""
        start = self.first_at if self.first_at < self.last_at else 0.0
        began = [each.started_at for worker, each in self.workers.items() if worker in self.rows and each.started_at]
        start = min([start, *began])
        span = max(self.last_at - start, 0.0)
        shown = nlargest(_ROWS, self.rows, key=lambda worker: self.rows[worker].took_s)
        shown.sort(key=lambda worker: (self.workers[worker].started_at if worker in self.workers else 0.0, worker))
        fails: dict[str, list[Failure]] = {}
        for each in self.failures:
            fails.setdefault(each.worker, []).append(each)
        for worker in fails:
            if worker not in self.rows and len(shown) < _ROWS:
                shown.append(worker)
        buckets = range(min(self.curve), max(self.curve) + 1) if self.curve else range(0)
        return {
            "schema": SCHEMA,
            "from": round(start, 3),
            "span_s": round(span, 3),
            "complete": self.complete,
            "timed": self.seen,
            "untimed": self.untimed,
            "failed": self.failed,
            "throughput": {
                "width_s": self.width_s,
                "from_s": round(buckets.start * self.width_s - start, 3),
                "inputs": [self.curve[bucket] for bucket in buckets],
                "bytes": [self.curve_bytes[bucket] for bucket in buckets],
            },
            "live": [[round(at - start, 1), workers] for at, workers, _ in self._thinned()],
            "workers": [self._row(worker, start, span, fails.get(worker, [])) for worker in shown],
            "more_workers": max(len(self.rows) - len(shown), 0),
            "points": [[size, round(took, 4)] for size, took, _ in self.points],
            "slowest": [
                {
                    "input": self.names.get((each.segment, each.index), f"{each.segment}:{each.index}"),
                    "bytes": each.input_bytes,
                    "took_s": round(each.took_s, 3),
                    "worker": each.worker[:8],
                    "at_s": round(each.began_at - start, 1),
                }
                for each in self.slowest
            ],
            "balance": self.balance(),
        }

    def _thinned(self) -> list[tuple[float, int, int]]:
        steps = self._steps()
        return steps[:: max(1, len(steps) // (2 * _BUCKETS))]

    def _row(self, worker: str, start: float, span: float, fails: list[Failure]) -> dict[str, Any]:
        row, record = self.rows.get(worker, _Row()), self.workers.get(worker)
        where = "" if record is None else record.node or record.host
        return {
            "id": worker[:8],
            "where": where + (f" slot {record.slot}" if record is not None and record.slot else ""),
            "version": "" if record is None else record.version,
            "state": _ended(record, gone=worker in self.left),
            "inputs": row.inputs,
            "bytes": row.bytes,
            "took_s": round(row.took_s, 3),
            "failed": len(fails),
            "spans": [
                [round(a - start, 2), round(b - start, 2), n] for a, b, n in joined(row.spans, span / _SPANS / 2)
            ],
            "fails": [[round(each.at - start, 2), each.input, f"{each.kind}: {each.error}"[:200]] for each in fails],
        }


def joined(spans: list[tuple[float, float, int]], gap: float) -> list[tuple[float, float, int]]:
    """Spans in order, with those that lie closer than *gap* made one, unless both are long."""
    made: list[tuple[float, float, int]] = []
    for began, ended, count in sorted(spans):
        if made and began - made[-1][1] < gap and min(ended - began, made[-1][1] - made[-1][0]) < 4 * gap:
            made[-1] = (made[-1][0], max(made[-1][1], ended), made[-1][2] + count)
        else:
            made.append((began, ended, count))
    return made


def _ended(record: BeatRecord | None, *, gone: bool) -> str:
    if record is None:
        return "unknown"
    if not gone:
        return "live"
    return "left" if record.state == "left" else "lost"


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
            begun = {n for name in self._fs.names(self._layout.done) if (n := parse_number(name)) is not None}
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
        if sum(hi - lo for lo, hi in ranges) >= self._counts[number]:
            self._full.add(number)
            del self._read[number]

    def _take(self, number: int, lo: int, hi: int) -> None:
        try:
            self.history.add(read_done(self._fs, self._layout, number, lo, hi))
        except (OSError, RecordError):
            pass  # `check` finds it

    def _read_workers(self, budget: int) -> None:
        history = self.history
        names = set(filter(is_worker, self._fs.names(self._layout.left)))
        live = live_workers(self._fs, self._layout)
        fresh = [(self._layout.left_of(each), each, True) for each in sorted(names - history.left)][: max(budget, 64)]
        for path, worker, gone in [*fresh, *((self._layout.live_of(each), each, False) for each in live)]:
            if gone:
                history.left.add(worker)
            try:
                history.workers[worker] = records.parse_beat(self._fs.read(path, records.SMALL_LIMIT_BYTES), path)
            except (OSError, RecordError):
                continue

    def _read_failures(self, budget: int) -> None:
        history = self.history
        numbers = [n for name in self._fs.names(self._layout.failures) if (n := parse_number(name)) is not None]
        failed = 0
        for number in sorted(numbers)[: max(budget, 64)]:
            directory = self._layout.failures_of(number)
            names = [name for name in self._fs.names(directory) if parse_failure(name) is not None]
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
        for number in nsmallest(_SLOWEST, {segment for segment, _ in wanted}):
            inputs = self._log.segment(number).inputs
            for segment, index in wanted:
                if segment == number and index < len(inputs):
                    self.history.names[segment, index] = inputs[index].path
