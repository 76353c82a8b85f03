"""The finalizer: runs the reducer over the done records of a generation, publishes the one summary.

A reduce ticket is claimed only when the done records cover its generation. The results go to the reducer one by one in
the order of the plan, which every finalizer sees alike, so a second computation gives the same bytes. Commit point:
**link summary/<entry>**. After it summary.json is made to show the newest generation; dying before that leaves the old one,
and whoever looks next puts it right. It is never set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import policy, records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import numbers_among
from .plan_log import PlanLog
from .records import Close, Input, Job, Outcome, Segment, Summary
from .results import Places, Stage, adopt, done_ranges, is_listed, publish, read_done, value_of
from .tasks import Result
from .ticket_store import empty_directory, remove_directory

_LOOKS = 8  # for each generation that comes meanwhile, and for each reply that is lost


@dataclass(frozen=True, slots=True)
class ReduceReport:
    """What a summary is about, for the worker that tells of it."""

    generation: int
    results: int
    quarantined: int
    took_s: float


class ResultReader:
    """Iterates over the results of all generations up to one; `task.Results` for reducers and for `export`.

    An input that was retried counts once, as it ended last. ``quarantined`` is final after the iteration. *on_read* is told
    after each input how many were read.
    """

    def __init__(
        self,
        fs: Fs,
        layout: Layout,
        job: Job,
        closes: list[tuple[int, Close]],
        *,
        partial: bool = False,
        on_read: Callable[[int], None] = lambda _inputs: None,
    ) -> None:
        self.inputs = 0
        self.results = 0
        self.quarantined = 0
        self.finished = False
        self._fs = fs
        self._layout = layout
        self._job = job
        self._log = PlanLog(fs, layout)
        self._closes = closes
        self._partial = partial  # pass over what is not done yet, instead of raising
        self._on_read = on_read

    def __iter__(self) -> Iterator[Result]:
        """Results in the order of the plan. Raises RecordError when an input has no done record."""
        for _, _, each, outcome, places in self.outcomes():
            if outcome.ok:
                yield Result(each.path, self._value(outcome, places))

    def outcomes(self) -> Iterator[tuple[int, int, Input, Outcome, Places]]:
        """Segment, index, input, outcome and places of every input, quarantined ones as well."""
        self.inputs = self.results = self.quarantined = 0
        self.finished = False
        replaced = self._replaced()
        for _, close in self._closes:
            for number, _, _ in close.segments:
                segment = self._log.segment(number)
                for index, outcome in self._segment_outcomes(number, segment):
                    if (number, index) in replaced:
                        continue
                    each = segment.inputs[index]
                    places = Places.of(self._layout, self._job, number, index, each)
                    if not outcome.ok:
                        outcome = self._outranked(outcome, places)
                    self.inputs += 1
                    self.results += outcome.ok
                    self.quarantined += not outcome.ok
                    self._on_read(self.inputs)
                    yield number, index, each, outcome, places
        self.finished = True

    def _outranked(self, outcome: Outcome, places: Places) -> Outcome:
        """A result outranks a report, should both stand; anything else in its place does not."""
        try:
            return adopt(self._fs, places.result) if self._fs.inode(places.result) is not None else outcome
        except (RecordError, FileNotFoundError):
            return outcome

    def _segment_outcomes(self, number: int, segment: Segment) -> Iterator[tuple[int, Outcome]]:
        at = 0
        for lo, hi in done_ranges(self._fs, self._layout, number):
            if hi <= at:
                continue
            if lo > at and self._partial:
                at = lo
            if lo > at:
                break
            done = read_done(self._fs, self._layout, number, lo, hi)
            for index in range(at, hi):
                yield index, done.outcomes[index - lo]
            at = hi
        if at < len(segment.inputs) and not self._partial:
            path = self._layout.done_of(number)
            raise RecordError(f"{path!r} has no done record for input {at}: run claimwork check --repair")

    def _replaced(self) -> set[tuple[int, int]]:
        replaced: set[tuple[int, int]] = set()
        for _, close in self._closes:
            if close.retried:
                for number, _, _ in close.segments:
                    replaced.update(each.of for each in self._log.segment(number).inputs if each.of is not None)
        return replaced

    def _value(self, outcome: Outcome, places: Places) -> Any:
        if outcome.has_value:
            return outcome.value
        _, _, data = self._fs.digest(places.result, policy.VALUE_LIMIT_BYTES)
        if data is None:
            raise RecordError(
                f"{places.result!r} is too large to be a value ({policy.VALUE_LIMIT_BYTES} bytes at most)"
            )
        try:
            return value_of(data)
        except RecordError:
            return None  # bytes of a command's own format


def reduce_generation(
    fs: Fs,
    layout: Layout,
    job: Job,
    stage: Stage,
    entry: int,
    reduce: Callable[[Any], Any],
    on_read: Callable[[int], None] = lambda _inputs: None,
) -> Summary | None:
    """Build and publish the summary of the generation that *entry* closes; None when a later one has taken its place.

    Exceptions of the reducer pass through. Calling it again is harmless. *on_read*: see `ResultReader`.
    """
    log = PlanLog(fs, layout)
    closes, _ = log.closes()
    if closes and closes[-1][0] > entry:
        return None
    summary = read_summary(fs, layout, entry)
    if summary is None:
        upto = [(number, close) for number, close in closes if number <= entry]
        reader = ResultReader(fs, layout, job, upto, on_read=on_read)
        value = reduce(reader)
        if not reader.finished:  # the reducer stopped early, and the counts are of all inputs
            for _ in reader.outcomes():
                pass
        summary = Summary(upto[-1][1].generation, entry, reader.inputs, reader.results, reader.quarantined, value)
        staged = stage.put(records.encode_summary(summary))
        stage.flush(staged)
        publish(fs, staged, layout.summary(entry), layout.out)
        stage.discard(staged)
    show_newest(fs, layout, stage)
    return summary


def read_summary(fs: Fs, layout: Layout, entry: int) -> Summary | None:
    """The summary that *entry* closed, when there is one."""
    path = layout.summary(entry)
    try:
        return records.parse_summary(fs.read(path, policy.VALUE_LIMIT_BYTES), path)
    except FileNotFoundError:
        return None


def is_shown(fs: Fs, layout: Layout, entry: int) -> bool:
    """Whether summary.json shows the summary that *entry* closed."""
    summary = read_summary(fs, layout, entry)
    try:
        shown = fs.read(layout.summary_json, policy.VALUE_LIMIT_BYTES)
    except (FileNotFoundError, RecordError):
        return False
    return summary is not None and shown == _shown(summary)


def _shown(summary: Summary) -> bytes:
    return records.dumps(summary.value) + b"\n"


def show_newest(fs: Fs, layout: Layout, stage: Stage) -> None:
    """Make summary.json show the newest generation."""
    shown = None
    for _ in range(_LOOKS):
        newest = _newest(fs, layout)
        if newest is None or newest == shown:
            return
        summary = read_summary(fs, layout, newest)
        if summary is not None and _show(fs, layout, stage, newest, _shown(summary)):
            shown = newest


def _newest(fs: Fs, layout: Layout) -> int | None:
    """The entry that closed the newest generation that has a summary."""
    return max(numbers_among(fs.names(layout.summaries)), default=None)


def _show(fs: Fs, layout: Layout, stage: Stage, entry: int, data: bytes) -> bool:
    """Make summary.json show *data*, of the generation that *entry* closed; False when that is not certain.

    It goes there by way of showing/<entry>, which whoever shows a later generation removes first: a rename that a lost
    host sent, and the server has yet to execute, then finds nothing. A later generation that came before my file was
    there is seen by the second look.
    """
    way = layout.showing_of(entry)
    _withdraw_older(fs, layout, entry)
    staged = stage.put(data)
    stage.flush(staged)
    fs.mkdir(way)
    moved = f"{way}/{stage.directory[-32:]}-{staged.rpartition('/')[2]}"
    for source, target in ((staged, moved), (moved, layout.summary_json)):
        if target != moved and _newest(fs, layout) != entry:
            return False
        try:
            fs.rename(source, target)
        except OSError:
            if is_listed(fs, source) and _newest(fs, layout) == entry:
                raise
            return False
    fs.flush([layout.summary(entry), layout.summary_json])  # whoever reports the job complete keeps its word
    return True


def _withdraw_older(fs: Fs, layout: Layout, entry: int) -> None:
    """Remove what is on its way to summary.json and of an earlier generation."""
    try:
        older = [number for number in numbers_among(fs.names(layout.showing)) if number < entry]
    except FileNotFoundError:  # an older release made this job
        fs.mkdir(layout.showing)
        return
    for number in older:
        path = layout.showing_of(number)
        for _ in range(_LOOKS):
            empty_directory(fs, path)
            if remove_directory(fs, path):
                break
