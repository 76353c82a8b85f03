"""History: what ran, where, when and how long, summed up as it is read.

`History.to_json` is the document that pages draw from: a few thousand numbers at most, whatever the size of the job. Times are
wall clocks of the workers, for people. What is drawn may be wrong where clocks are; nothing else depends on it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from random import Random
from typing import Any

from .records import BeatRecord, Done, Failure
from .snapshot import place

SCHEMA = 1
_BUCKETS = 200  # of a throughput curve, at most
_ROWS = 40  # workers that get a row of their own
_SPANS = 60  # of the length of a row: gaps and bars that are shorter are not drawn one by one
_POINTS = 800  # of size against duration, a fair sample
SLOWEST = 15


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
    _within: range = range(0)  # buckets of the curve
    _rng: Random = field(default_factory=lambda: Random(0))  # the same sample each time

    def add(self, done: Done) -> None:
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
            if len(self.slowest) < SLOWEST or ran.took_s > self.slowest[-1].took_s:
                slow = Slow(ran.took_s, done.segment, index, ran.input_bytes, ran.began_at, done.worker)
                self.slowest = nlargest(SLOWEST, [*self.slowest, slow], key=lambda each: each.took_s)
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
        bucket = int(at // self.width_s)
        self.curve[bucket] += 1
        self.curve_bytes[bucket] += size
        if bucket in self._within:
            return
        self._within = range(min(self.curve), max(self.curve) + 1)
        while len(self._within) > _BUCKETS:
            self.width_s *= 2
            self.curve, self.curve_bytes = _halved(self.curve), _halved(self.curve_bytes)
            self._within = range(min(self.curve), max(self.curve) + 1)

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
        now = max([self.last_at, *(each.at for each in self.workers.values())])
        for worker, row in self.rows.items():
            record = self.workers.get(worker)
            if not row.spans:
                continue
            began = min(span[0] for span in row.spans)
            ended = max(span[1] for span in row.spans)
            count = 1 if record is None else record.slots
            if record is not None:
                began = min(began, record.started_at) if record.started_at else began
                ended = max(ended, record.at if worker in self.left else now)  # one that beats is there until now
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
        began = [each.started_at for worker, each in self.workers.items() if worker in self.rows and each.started_at]
        failed = [each.at for each in self.failures if each.at]
        start = min([*([self.first_at] if self.seen else []), *began, *failed], default=0.0)
        ended = max([self.last_at, *(each.at for each in self.failures)])
        span = max(ended - start, 0.0)
        shown = nlargest(_ROWS, self.rows, key=lambda worker: self.rows[worker].took_s)
        shown.sort(key=lambda worker: (self.workers[worker].started_at if worker in self.workers else 0.0, worker))
        fails: dict[str, list[Failure]] = {}
        for each in self.failures:
            fails.setdefault(each.worker, []).append(each)
        for worker in fails:
            if worker not in self.rows and len(shown) < _ROWS:
                shown.append(worker)
        buckets = self._within
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
        every = max(1, len(steps) // (2 * _BUCKETS))
        return steps[:-1:every] + steps[-1:]

    def _row(self, worker: str, start: float, span: float, fails: list[Failure]) -> dict[str, Any]:
        row, record = self.rows.get(worker, _Row()), self.workers.get(worker)
        return {
            "id": worker[:8],
            "where": "" if record is None else place(record.node or record.host, record.service, record.slot),
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


def _halved(curve: Counter[int]) -> Counter[int]:
    """The same curve in buckets of twice the width."""
    wider: Counter[int] = Counter()
    for bucket, count in curve.items():
        wider[bucket // 2] += count
    return wider


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
