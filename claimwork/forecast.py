"""Forecast: how fast a job goes and when it will be done, from what workers tell about themselves. Values in, values out.

Time left is the cost of what is open, in seconds of one slot, over the slots that work on it. What an input costs follows from
its size as `effort` has seen it. The result is a range: where few inputs were seen, or only large ones, it is wide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .effort import Effort, Fit
from .records import BeatRecord

_ENOUGH_INPUTS = 16
_ENOUGH_SHARE = 0.02  # of the cost: before that, start-up weighs too much
_STEADY_S = 60.0  # a worker that young says nothing yet of how well its slots are used
_SURE_OF_SLOPE = 0.02  # of what the sizes seen would have to differ by, before their differences are relied on


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast: a second's worth."""

    inputs: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the last input is settled, at best and at worst, as far as one can tell."""

    low_s: float
    high_s: float

    @property
    def middle_s(self) -> float:
        """One number, where one is needed."""
        return math.sqrt(self.low_s * self.high_s) if self.low_s > 0 else self.high_s / 2


@dataclass(frozen=True, slots=True)
class InHand:
    """An input that runs: seconds since it began, its size where that is known, and what of its ticket is behind it."""

    for_s: float
    size_bytes: int | None = None
    behind: int = 0
    behind_bytes: float = 0.0


def rate_of(record: BeatRecord, window: int) -> Rate:
    """How fast one worker was over `effort.WINDOWS_S`[*window*], or since it began."""
    if window >= len(record.pace) or record.pace[window].age_s < 1:
        return Rate()
    mark = record.pace[window]
    return Rate(
        max(record.done - mark.done, 0) / mark.age_s,
        max(record.done_bytes - mark.done_bytes, 0) / mark.age_s,
    )


def total_rate(beats: Iterable[BeatRecord], window: int) -> Rate:
    """How fast all of them were together."""
    rates = [rate_of(record, window) for record in beats]
    return Rate(sum(each.inputs for each in rates), sum(each.bytes for each in rates))


def busy_slots(beats: Iterable[BeatRecord]) -> int:
    """Slots that run inputs, or will: not those of a finalizer that waits, nor of a worker that is stopping."""
    return sum(
        each.slots
        for each in beats
        if each.state != "draining" and (each.effort.count or any(":" in name for name, _ in each.current))
    )


def eta(
    effort: Effort, beats: Sequence[BeatRecord], in_hand: Sequence[InHand], done: int, left: int, left_bytes: int
) -> Eta | None:
    """When the *left* inputs will be settled; None while there is too little to tell, or nobody at work."""
    slots = busy_slots(beats)
    fit, plain = effort.fit(), effort.proportional()
    enough = max(3, min(_ENOUGH_INPUTS, (done + left) // 10))
    if fit is None or plain is None or not slots or not left or effort.count < enough:
        return None
    models = [fit] if _has_slope(effort) else [fit, plain]
    costs = [max(_open_cost(model, in_hand, left, left_bytes), 0.0) for model in models]
    if effort.took_s < _ENOUGH_SHARE * (effort.took_s + max(costs)):
        return None
    power = min(slots, left) * _use(beats)
    longest = max((_rest(fit, each) for each in in_hand), default=0.0)
    doubt = 0.08 + 0.4 / math.sqrt(effort.count)
    low = max(min(costs) / power / (1 + doubt), longest / (1 + doubt))
    high = max(max(costs) / power, longest) * (1 + doubt)
    return Eta(round(low, 1), round(high, 1))


def straggle(in_hand: Sequence[InHand], median_s: float | None, left: int) -> tuple[int, float] | None:
    """How many of the inputs that run do so for over five medians, and the longest in medians, when little else is left."""
    if not median_s or left > 4 * len(in_hand):
        return None
    late = [each.for_s / median_s for each in in_hand if each.for_s > max(5 * median_s, 1.0)]
    return (len(late), max(late)) if late else None


def _open_cost(model: Fit, in_hand: Sequence[InHand], left: int, left_bytes: int) -> float:
    cost = model.cost_s(left, left_bytes)
    for each in in_hand:
        cost -= model.cost_s(each.behind, each.behind_bytes)
        if each.size_bytes is not None:
            cost -= min(each.for_s, model.cost_s(1, each.size_bytes))
    return cost


def _rest(model: Fit, each: InHand) -> float:
    """What an input in hand still takes; one that is late is taken to be half done."""
    if each.size_bytes is None:
        return 0.0
    expected = model.cost_s(1, each.size_bytes)
    return max(expected - each.for_s, 0.1 * each.for_s)


def _use(beats: Sequence[BeatRecord]) -> float:
    """The share of slot time that went into inputs: the rest is claiming, publishing, and waiting."""
    took = alive = 0.0
    for record in beats:
        if record.effort.count and record.pace and record.pace[-1].age_s >= _STEADY_S:
            mark = record.pace[-1]
            took += record.effort.took_s - mark.took_s + sum(since for _, since in record.current)
            alive += mark.age_s * record.slots
    return min(max(took / alive, 0.2), 1.0) if alive else 1.0


def _has_slope(effort: Effort) -> bool:
    """Whether sizes differed enough for the fit to say what a small input costs."""
    determinant = effort.w * effort.wxx - effort.wx * effort.wx
    return effort.count >= 64 and determinant > _SURE_OF_SLOPE * effort.w * effort.wxx
