"""Effort: what running inputs has cost, in a few sums that fit into a heartbeat and add up over workers.

From the sums follow what an input of some size will cost (`fit`) and how long the middle one took (`median_s`). `Pace` keeps
how far a worker was a minute and ten minutes ago, on its own monotonic clock. All of it is information; no decision of the
protocol uses it.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_BASE_BYTES = (
    64 * 1024
)  # an error counts relative to size and this, so that many small inputs say what a small one costs
_BUCKETS_PER_DOUBLING = 2  # durations are kept to within 41 %, and `median_s` interpolates
_SHORTEST_S = 1e-6
WINDOWS_S = (60.0, 600.0)
_SAMPLE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Fit:
    """An input costs ``each_s`` seconds, and ``per_byte_s`` more for each of its bytes."""

    each_s: float
    per_byte_s: float

    def cost_s(self, inputs: float, size_bytes: float) -> float:
        """Seconds of one slot for so many inputs of so many bytes in all."""
        return inputs * self.each_s + size_bytes * self.per_byte_s


@dataclass(frozen=True, slots=True)
class Effort:
    """Sums over inputs that ran to a result. ``spread`` counts them by duration."""

    count: int = 0
    spread: tuple[tuple[int, int], ...] = ()
    size_bytes: float = 0.0
    took_s: float = 0.0
    w: float = 0.0
    wx: float = 0.0
    wxx: float = 0.0
    wt: float = 0.0
    wxt: float = 0.0

    @classmethod
    def of(cls, ran: Iterable[Sequence[float]]) -> Effort:
        """The effort of inputs, each told as its bytes and seconds."""
        count, size, took, w, wx, wxx, wt, wxt = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        spread: Counter[int] = Counter()
        for x, t in ran:
            weight = 1.0 / (x + _BASE_BYTES)
            count += 1
            size += x
            took += t
            w += weight
            wx += weight * x
            wxx += weight * x * x
            wt += weight * t
            wxt += weight * x * t
            spread[math.floor(_BUCKETS_PER_DOUBLING * math.log2(max(t, _SHORTEST_S)))] += 1
        return cls(count, tuple(sorted(spread.items())), size, took, w, wx, wxx, wt, wxt)

    def __add__(self, other: Effort) -> Effort:
        return self._with(other, 1)

    def __sub__(self, other: Effort) -> Effort:
        return self._with(other, -1)

    def _with(self, other: Effort, sign: int) -> Effort:
        if not other.count:
            return self
        spread = Counter(dict(self.spread))
        for bucket, count in other.spread:
            spread[bucket] += sign * count
        sums = [mine + sign * its for mine, its in zip(self._sums(), other._sums(), strict=True)]
        return Effort(self.count + sign * other.count, tuple(sorted((b, n) for b, n in spread.items() if n > 0)), *sums)

    def _sums(self) -> tuple[float, ...]:
        return (self.size_bytes, self.took_s, self.w, self.wx, self.wxx, self.wt, self.wxt)

    def fit(self) -> Fit | None:
        """The line through what was seen, by least squares; a cost is never negative. None before anything ran."""
        if not self.count or self.w <= 0:
            return None
        determinant = self.w * self.wxx - self.wx * self.wx
        if determinant > 1e-6 * self.w * self.wxx:
            per_byte = (self.w * self.wxt - self.wx * self.wt) / determinant
            each = (self.wt - per_byte * self.wx) / self.w
            if per_byte >= 0 and each >= 0:
                return Fit(each, per_byte)
            return Fit(0.0, self.wxt / self.wxx) if per_byte >= 0 else Fit(self.wt / self.w, 0.0)
        return self.proportional()

    def proportional(self) -> Fit | None:
        """Cost in proportion to size, but for what opening and publishing an input costs: what a plan reckons with."""
        if not self.count:
            return None
        per_byte = self.took_s / (self.size_bytes + self.count * _BASE_BYTES)
        return Fit(per_byte * _BASE_BYTES, per_byte)

    def median_s(self) -> float | None:
        """How long the middle input took, interpolated."""
        half = sum(count for _, count in self.spread) / 2
        if half <= 0:
            return None
        below = 0
        for bucket, count in self.spread:
            if below + count >= half:
                return float(2 ** ((bucket + (half - below) / count) / _BUCKETS_PER_DOUBLING))
            below += count
        return None

    def to_json(self) -> list[Any]:
        """A short list of numbers."""
        return [self.count, *(float(f"{each:.9g}") for each in self._sums()), [list(each) for each in self.spread]]

    @classmethod
    def from_json(cls, body: Any) -> Effort:
        """Inverse of `to_json`; no effort for anything else, since this is information only."""
        match body:
            case [int(count), *sums, list(rows)] if len(sums) == 7 and count >= 0:
                if all(isinstance(each, int | float) and math.isfinite(each) for each in sums):
                    spread = [
                        (row[0], row[1])
                        for row in rows
                        if isinstance(row, list)
                        and len(row) == 2
                        and all(type(n) is int and abs(n) < 1 << 53 for n in row)
                    ]
                    return cls(count, tuple(sorted(spread)), *map(float, sums))
        return cls()


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a worker was ``age_s`` before its record: inputs and bytes done, and seconds that its inputs took, by then."""

    age_s: float
    done: int
    done_bytes: int
    took_s: float


@dataclass
class Pace:
    """Where one worker was and when, by its monotonic clock."""

    _marks: deque[tuple[float, int, int, float]] = field(default_factory=deque)

    def note(self, now: float, done: int, done_bytes: int, took_s: float) -> None:
        """Remember where the worker is now."""
        if self._marks and now - self._marks[-1][0] < _SAMPLE_EVERY_S:
            return
        self._marks.append((now, done, done_bytes, took_s))
        while len(self._marks) > 1 and now - self._marks[1][0] >= WINDOWS_S[-1]:
            self._marks.popleft()

    def marks(self, now: float) -> list[Mark]:
        """For each window the latest mark that is at least as old; the oldest one while there is none."""
        found = []
        for window in WINDOWS_S:
            old = [each for each in self._marks if now - each[0] >= window]
            at = old[-1] if old else self._marks[0] if self._marks else None
            if at is not None:
                found.append(Mark(round(now - at[0], 1), at[1], at[2], round(at[3], 3)))
        return found
