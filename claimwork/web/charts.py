"""Charts: turns the history of a job into places on a drawing, which the templates then write as SVG. Values in, values out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..render import size
from ..snapshot import counted, duration

WIDTH, LEFT, RIGHT = 720, 160, 26  # units of a drawing; its text is 11 of them high
HEIGHT, TOP, BOTTOM = 160, 8, 22
ROW, BAR = 20, 12  # of a timeline
_TICKS = 6
_LABEL = 24  # characters that fit on the left
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_INNER = WIDTH - LEFT - RIGHT


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with two axes: a shape, and the marks along its sides."""

    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    words: str
    height: int = HEIGHT


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that failed: where it is on its row, and what it was."""

    x: float
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """A worker on the timeline."""

    y: int
    label: str
    words: str
    bars: tuple[tuple[float, float], ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """All rows."""

    rows: tuple[Row, ...]
    x_ticks: tuple[Tick, ...]
    height: int


@dataclass(frozen=True)
class Axis:
    """Turns values from *low* to *high* into places from *start* to *end*; values beyond are drawn at its ends."""

    low: float
    high: float
    start: float
    end: float
    scale: Callable[[float], float] = field(default=float)

    def __call__(self, value: float) -> float:
        low, high = self.scale(self.low), self.scale(self.high)
        share = (self.scale(value) - low) / (high - low) if high > low else 0.5
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


def throughput(history: dict[str, Any]) -> Plot | None:
    """Inputs a second over time."""
    told = history["throughput"]
    width_s, from_s = told["width_s"], told["from_s"]
    rates = [count / width_s for count in told["inputs"]]
    if not any(rates):
        return None
    x, y = _times(history), _up_to(max(rates))
    shape = [f"M{x(from_s)} {y(0)}"]
    for bucket, rate in enumerate(rates):
        shape.append(f"V{y(rate)}H{x(from_s + (bucket + 1) * width_s)}")
    mean = history["timed"] / max(history["span_s"], width_s)
    words = f"{mean:.3g} inputs a second on average"
    if max(rates) > mean:  # in a job shorter than two seconds each bucket is cut
        words += f", up to {max(rates):.3g}"
    return Plot("".join([*shape, f"V{y(0)}Z"]), _time_ticks(history), _count_ticks(y), words)


def live(history: dict[str, Any]) -> Plot | None:
    """Workers over time."""
    steps = history["live"]
    most = max((workers for _, workers in steps), default=0)
    if not most:
        return None
    x, y = _times(history), _up_to(most)
    shape = f"M{x(steps[0][0])} {y(0)}" + "".join(f"H{x(at)}V{y(workers)}" for at, workers in steps)
    return Plot(
        f"{shape}V{y(0)}Z",
        _time_ticks(history),
        _count_ticks(y, 1.0),
        f"at most {most} at a time, of those that finished inputs",
    )


def scatter(history: dict[str, Any]) -> Plot | None:
    """Size against duration, both on a scale on which each mark is ten times the last; a fair sample."""
    points = [(max(size_bytes, 1), max(took_s, 1e-5)) for size_bytes, took_s in history["points"]]
    if not points:
        return None
    height = 2 * HEIGHT
    x = _decades([each for each, _ in points], LEFT, WIDTH - RIGHT)
    y = _decades([took for _, took in points], height - BOTTOM, TOP)
    places = sorted({(x(size_bytes), y(took)) for size_bytes, took in points})
    shape = "".join(f"M{at} {up}h0" for at, up in places)
    words = f"{len(points)} of " if history["timed"] > len(points) else ""
    words += counted(max(history["timed"], len(points)), "input")
    return Plot(shape, _decade_ticks(x, size), _decade_ticks(y, duration), words, height)


def timeline(history: dict[str, Any]) -> Timeline | None:
    """A row for each worker: when it ran inputs, and what failed under it."""
    x = _times(history)
    rows = []
    for number, each in enumerate(history["workers"]):
        bars = [(x(began), x(ended)) for began, ended, _ in each["spans"]]
        marks = tuple(Mark(x(at), f"{name}: {words}") for at, name, words in each["fails"])
        words = f"{each['id']}: {counted(each['inputs'], 'input')} in {duration(each['took_s'])}"
        words += f", {counted(each['failed'], 'failed attempt')}"
        wide = tuple((began, round(max(ended - began, 1.0), 1)) for began, ended in bars)
        label = f"{each['id'][:4]} {each['where']}".strip()
        rows.append(Row(number * ROW, label if len(label) <= _LABEL else label[: _LABEL - 1] + "…", words, wide, marks))
    return Timeline(tuple(rows), _time_ticks(history), len(rows) * ROW + BOTTOM) if rows else None


def stacked(parts: Iterable[tuple[str, float]], total: float) -> list[tuple[str, float, float]]:
    """Parts of a bar that is 100 wide: kind, place, width. What is there at all is seen."""
    found, used = [], 0.0
    for kind, count in parts:
        if count and total:
            wide = min(max(100 * count / total, 0.5), 100 - used)
            found.append((kind, round(used, 2), round(wide, 2)))
            used += wide
    return found


def _times(history: dict[str, Any]) -> Axis:
    return Axis(0.0, max(history["span_s"], 1e-3), LEFT, WIDTH - RIGHT)


def _time_ticks(history: dict[str, Any]) -> tuple[Tick, ...]:
    span = max(history["span_s"], 1e-3)
    if span <= _TICKS:
        step = _round_step(span / _TICKS)
    else:
        step = next((each for each in _STEPS_S if each * _TICKS >= span), _round_step(span / _TICKS))
    x = _times(history)
    return tuple(Tick(x(step * n), duration(step * n) if n else "0") for n in range(int(span / step) + 1))


def _up_to(most: float) -> Axis:
    return Axis(0.0, most, HEIGHT - BOTTOM, TOP)


def _count_ticks(y: Axis, least: float = 0.0) -> tuple[Tick, ...]:
    step = max(_round_step(y.high / 4), least)
    return tuple(Tick(y(step * n), f"{step * n:.4g}") for n in range(int(y.high / step + 1e-9) + 1))


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no less."""
    power = float(10 ** math.floor(math.log10(least)))
    return next((power * each for each in (1, 2, 5) if power * each >= least * (1 - 1e-9)), power * 10)


def _decades(values: Sequence[float], start: float, end: float) -> Axis:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(float(10**low), float(10 ** max(high, low + 1)), start, end, math.log10)


def _decade_ticks(axis: Axis, words: Callable[[float], str]) -> tuple[Tick, ...]:
    decades = range(round(math.log10(axis.low)), round(math.log10(axis.high)) + 1)
    every = max(1, len(decades) // _TICKS)
    return tuple(Tick(axis(float(10**n)), words(float(10**n))) for n in decades[::every])
