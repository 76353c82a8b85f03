"""What a child process does with a ticket: run every input of a range, publish, write the done record.

A child holds no claim; its worker does. It reports back as data: which inputs failed and why, where it stopped, or that the
fault lies with the mount. Results of quick inputs are staged together, flushed once, and then published one by one.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections import OrderedDict
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from . import policy
from .clock import Clock
from .effort import Effort
from .errors import Fenced, RecordError, WorkerFault, is_mount_errno, mount_fault
from .fs import Fs, digest_of, encode_path
from .layout import Layout
from .names import Kind, Ticket
from .parts import remove_parts
from .plan_log import PlanLog
from .records import Failure, Input, Job, Outcome, Part, Ran, Segment
from .results import (
    Places,
    Stage,
    adopt,
    done_ranges,
    outcome_of,
    publish,
    settle,
    settled,
    settled_indexes,
    write_done,
)
from .splitter import Progress, Splitter, Stopped
from .tasks import Attempt, CommandFailed, GiveUp, Runner
from .tasks import __file__ as tasks_file

_TAKEN = (RecordError, IsADirectoryError, NotADirectoryError)  # something else is where a result should go
_SEGMENTS_KEPT = 8  # tickets of one shard come from a few segments


@dataclass
class MapReport:
    """How a range went. Inputs from ``stopped_at`` on were not begun; ``failures`` have no outcome yet.

    ``done_bytes`` and ``effort`` are of inputs that came to a result here, and of parts that were computed here: who gathers
    parts does not tell of them once more. ``gathered`` inputs came from parts that others had computed, all of them. ``ran`` has
    paths, bytes and seconds of those inputs, if that was asked for.
    """

    stopped_at: int
    done: int = 0
    done_bytes: int = 0
    adopted: int = 0
    gathered: int = 0
    failures: list[tuple[Failure, bool]] = field(default_factory=list)  # and whether it is final
    effort: Effort = field(default_factory=Effort, compare=False)
    ran: list[tuple[str, int, float]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the pipe to the worker: but for ``ran``, nothing in it grows with the inputs that went well."""
        failures = [(asdict(failure), final) for failure, final in self.failures]
        return {**vars(self), "failures": failures, "effort": self.effort.to_json()}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> MapReport:
        """Inverse of `to_json`."""
        failures = [(Failure(**failure), final) for failure, final in body["failures"]]
        ran = [(path, size, took_s) for path, size, took_s in body["ran"]]
        return cls(**{**body, "failures": failures, "effort": Effort.from_json(body["effort"]), "ran": ran})


@dataclass
class _Pending:
    index: int
    places: Places
    staged: str
    outcome: Outcome
    ran: Ran
    computed_bytes: int  # here, in so many seconds; of an input in parts `ran` tells of all of them
    took_s: float


class Mapper:
    """Runs map tickets for one child."""

    def __init__(
        self,
        fs: Fs,
        layout: Layout,
        job: Job,
        stage: Stage,
        input_dir: str,
        runner: Runner,
        clock: Clock,
        progress: Progress,
        *,
        verbose: bool = False,
    ) -> None:
        self._verbose = verbose
        self._fs = fs
        self._layout = layout
        self._job = job
        self._stage = stage
        self._input_dir = input_dir.rstrip("/")
        self._runner = runner
        self._clock = clock
        self._progress = progress
        self._splitter = Splitter(fs, layout, job, stage, self._input_dir, runner, progress)
        self._log = PlanLog(fs, layout)
        self._segments: OrderedDict[int, Segment] = OrderedDict()
        self._saw_input = False
        self._made: set[str] = set()

    def run(self, ticket: Ticket, *, control: bool = False) -> MapReport:
        """Process a map or part ticket until its end or until told to stop. With *control*: try its one input or part, and
        publish nothing.

        Of a large input a control tries the first part.

        Raises WorkerFault for a fault of the mount or of this worker: nothing is charged then, and the whole ticket may be
        handed back. Raises Fenced when peers took this worker for dead.
        """
        try:
            if control:
                return self._try(ticket)
            return self._run_part(ticket) if ticket.kind is Kind.PART else self._run(ticket)
        except OSError as error:
            if is_mount_errno(error.errno):
                raise mount_fault(error, self._layout.out) from error
            if error.errno in (errno.ENOENT, errno.ESTALE):
                self._stage.holds("")  # raises Fenced when the stage is gone
            raise WorkerFault(f"cannot work on {self._layout.out!r}: {error}") from error

    def _run(self, ticket: Ticket) -> MapReport:
        segment = self._segment(ticket.segment)
        again = ticket.attempt > 1
        covered = done_ranges(self._fs, self._layout, ticket.segment) if again else []
        report = MapReport(stopped_at=ticket.hi)
        outcomes: dict[int, Outcome] = {}
        pending: list[_Pending] = []
        ran: list[tuple[int, float]] = []
        first_pending_at = 0.0
        for index in range(ticket.lo, min(ticket.hi, len(segment.inputs))):  # a ticket is a name: it may be made up
            if index >= self._progress.stops_at():
                report.stopped_at = index
                break
            if covered and any(lo <= index < hi for lo, hi in covered):
                continue
            each = segment.inputs[index]
            places = Places.of(self._layout, self._job, ticket.segment, index, each)
            if again or places.retried:
                try:
                    known = settled(self._fs, self._layout, self._job, places, self._stage.path())
                except _TAKEN:
                    report.failures.append((self._taken(ticket, index, places), True))
                    continue
                if known is not None:
                    outcomes[index] = known
                    report.adopted += 1
                    self._made |= places.directories(ok=known.ok)  # who published it may not have flushed its name
                    continue
            self._progress.begin(index)
            item = self._attempt(ticket, index, each, places, report)
            self._progress.end()
            if report.stopped_at == index:
                break
            if item is None:
                continue
            ran.append((item.computed_bytes, item.took_s))
            report.done_bytes -= each.size_bytes - item.computed_bytes
            report.gathered += each.size_bytes > 0 and not item.computed_bytes
            if self._verbose:
                report.ran.append((each.path, each.size_bytes, item.ran.took_s))
            now = self._clock.monotonic()
            if not pending:
                first_pending_at = now - item.took_s
            pending.append(item)
            if now - first_pending_at >= policy.PUBLISH_GROUP_S or len(pending) >= policy.PUBLISH_GROUP:
                self._publish(ticket, pending, outcomes, report)
        self._publish(ticket, pending, outcomes, report)
        report.effort = Effort.of(ran)
        self._finish(ticket.segment, segment, outcomes, report)
        return report

    def _finish(self, number: int, segment: Segment, outcomes: dict[int, Outcome], report: MapReport) -> None:
        """Write the done record of what came to an outcome; then the parts of a large input are needed no more."""
        report.done = sum(outcome.ok for outcome in outcomes.values())
        report.done_bytes += sum(segment.inputs[i].size_bytes for i, outcome in outcomes.items() if outcome.ok)
        report.done_bytes = max(report.done_bytes, 0)  # where something else stood in the place of a result
        if outcomes:
            write_done(self._fs, self._layout, self._stage, number, outcomes, self._made)
            self._made.clear()
        if any(self._splitter.splits(each) for each in segment.inputs[:1]) and self._is_done(number):
            remove_parts(self._fs, self._layout, number)

    def _run_part(self, ticket: Ticket) -> MapReport:
        """Compute one part and tell its value. A failure is for the worker to tell, who may be to blame for it."""
        each, nth = self._segment(ticket.segment).inputs[0], ticket.lo
        report = MapReport(stopped_at=ticket.hi)
        if nth >= self._progress.stops_at():
            report.stopped_at = nth
            return report
        if nth >= policy.part_count(each.size_bytes, self._job.split_bytes) or self._is_done(ticket.segment):
            return report  # somebody made it up, or it is needed no more
        started = self._clock.monotonic()
        part = self._part(ticket, each, nth)
        if isinstance(part, Failure):
            report.failures.append((part, part.kind == "gave_up"))
        else:
            self._splitter.publish(ticket.segment, nth, part)
            start, stop = self._splitter.bounds(each, nth)
            report.done_bytes = stop - start
            report.effort = Effort.of([(stop - start, self._clock.monotonic() - started)])
        if self._is_done(ticket.segment):
            remove_parts(self._fs, self._layout, ticket.segment)
        return report

    def _part(self, ticket: Ticket, each: Input, nth: int) -> Part | Failure:
        """Compute part *nth* of an input."""
        self._progress.begin(nth)
        began_at = self._clock.time()
        try:
            part = Part(self._splitter.compute(each, nth, ticket.attempt), began_at=began_at)
        except WorkerFault:
            raise
        except Exception as error:
            return self._failure(ticket, 0, each, f"{self._input_dir}/{each.path}", error)
        finally:
            self._progress.end()
        self._saw_input = True
        return part

    def _is_done(self, segment: int) -> bool:
        return bool(done_ranges(self._fs, self._layout, segment))

    def _try(self, ticket: Ticket) -> MapReport:
        segment, index = self._segment(ticket.segment), ticket.lo
        report = MapReport(stopped_at=ticket.hi)
        each = segment.inputs[ticket.first_input]
        if self._splitter.splits(each):  # all of it could take hours, and would leave parts behind
            part = self._part(ticket, each, ticket.lo)  # alone in its segment: as an input it is 0
            if isinstance(part, Failure):
                report.failures.append((part, False))
            else:
                report.done = 1
            return report
        self._progress.begin(index)
        places = Places.of(self._layout, self._job, ticket.segment, index, each)
        item = self._attempt(ticket, index, each, places, report)
        self._progress.end()
        if item is not None:
            self._stage.discard(item.staged)
            report.done = 1
        return report

    def _attempt(self, ticket: Ticket, index: int, each: Input, places: Places, report: MapReport) -> _Pending | None:
        """Run the task once; the staged result, or None after noting the failure, or that it was told to stop."""
        path = f"{self._input_dir}/{each.path}"
        staged = self._stage.path()
        attempt = Attempt(ticket.attempt, each.path, each.size_bytes, self._progress)
        began_at, started = self._clock.time(), self._clock.monotonic()
        computed, first_at = each.size_bytes, began_at
        data: bytes | None
        try:
            if self._splitter.splits(each):
                data, computed, first_at = self._splitter.gather(ticket.segment, index, each, ticket.attempt, began_at)
            else:
                data = self._runner.run(_for_user(path), attempt, staged)
            self._saw_input = True
        except (WorkerFault, Fenced):
            raise
        except Stopped:
            report.stopped_at = index
            return None
        except Exception as error:
            if isinstance(error, OSError) and error.filename == staged:
                raise  # the fault of OUT, not of the input
            failure = self._failure(ticket, index, each, path, error)
            report.failures.append((failure, isinstance(error, GiveUp)))
            self._stage.discard(staged)
            return None
        finally:
            attempt.cleanup()
        if data is not None:
            staged = self._stage.put(data)
            took_s = self._clock.monotonic() - started
            ran = Ran(first_at, began_at - first_at + took_s, each.size_bytes)
            kept = data.removesuffix(b"\n") if len(data) <= policy.INLINE_BYTES else None  # JSON already
            outcome = Outcome(True, len(data), digest_of(data), kept is not None, kept, ran=ran)
            return _Pending(index, places, staged, outcome, ran, computed, took_s)
        try:
            size, digest, kept = self._fs.seal(staged, policy.INLINE_BYTES)
        except RecordError:
            failure = self._failure(ticket, index, each, path, CommandFailed("{output} is not a plain file"))
            report.failures.append((failure, False))
            self._stage.discard(staged)
            return None
        ran = Ran(began_at, self._clock.monotonic() - started, each.size_bytes)
        return _Pending(index, places, staged, outcome_of(size, digest, kept, ran), ran, computed, ran.took_s)

    def _publish(
        self, ticket: Ticket, pending: list[_Pending], outcomes: dict[int, Outcome], report: MapReport
    ) -> None:
        if not pending:
            return
        self._fs.flush([item.staged for item in pending])
        contested = settled_indexes(self._fs, self._layout, ticket.segment) if ticket.attempt == 1 else set()
        for item in pending:
            try:
                if ticket.attempt > 1 or item.places.retried or item.index in contested:
                    mine, outcome = settle(self._fs, self._layout, self._job, item.places, item.staged)
                    outcome = replace(outcome, ran=item.ran) if mine else outcome
                else:
                    mine = publish(self._fs, item.staged, item.places.result, self._layout.out)
                    outcome = item.outcome if mine else adopt(self._fs, item.places.result)
            except _TAKEN:
                report.failures.append((self._taken(ticket, item.index, item.places), True))
                self._stage.discard(item.staged)
                continue
            report.adopted += not mine
            outcomes[item.index] = outcome
            self._made |= item.places.directories(ok=outcome.ok)
            self._stage.discard(item.staged)
        pending.clear()

    def _taken(self, ticket: Ticket, index: int, places: Places) -> Failure:
        path = self._segment(ticket.segment).inputs[index].path
        error = f"the place of its result is taken by something else: {places.result!r}"
        return Failure(path, ticket.segment, index, ticket.attempt, "exception", error)

    def _failure(self, ticket: Ticket, index: int, each: Input, path: str, error: Exception) -> Failure:
        kind, words, detail = "exception", f"{type(error).__name__}: {_words(error)}", ""
        if isinstance(error, GiveUp):
            kind, words = "gave_up", _words(error) or "the task gave up"
        elif isinstance(error, CommandFailed):
            words = str(error)
        elif isinstance(error, OSError) and error.filename is not None and _same(error.filename, path):
            kind, words = "unreadable", f"cannot read the input: {(error.strerror or str(error)).lower()}"
            self._blame_the_mount(ticket.segment)
        else:
            detail = _traceback(error)
        return Failure(each.path, ticket.segment, index, ticket.attempt, kind, words.replace("\n", " ")[:1000], detail)

    def _blame_the_mount(self, segment: int) -> None:
        """Raise WorkerFault when this worker sees none of the inputs: the wrong directory is mounted as IN."""
        if self._saw_input:
            return
        for each in self._segment(segment).inputs[:64]:
            if os.path.lexists(_for_user(f"{self._input_dir}/{each.path}")):
                self._saw_input = True
                return
        try:
            others = bool(os.listdir(_for_user(self._input_dir)))
        except OSError:
            others = False
        if len(self._segment(segment).inputs) >= 3 or not others:
            raise WorkerFault(
                f"none of the planned inputs is under {self._input_dir!r}: the wrong directory is mounted there; "
                "mount the one that was planned, then start this worker again: no input was charged"
            )

    def _segment(self, number: int) -> Segment:
        if number in self._segments:
            self._segments.move_to_end(number)
        else:
            self._segments[number] = self._log.segment(number)
            if len(self._segments) > _SEGMENTS_KEPT:
                self._segments.popitem(last=False)
        return self._segments[number]


def _words(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # the user's own; an error that cannot be told is a failed attempt all the same
        return ""


def _traceback(error: Exception) -> str:
    """The traceback from the user's own code on."""
    frame = error.__traceback__
    while (
        frame is not None and frame.tb_next is not None and frame.tb_frame.f_code.co_filename in (__file__, tasks_file)
    ):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))[-policy.LOG_TAIL_BYTES :]


def _for_user(path: str) -> str:
    """A path as this interpreter's own file functions spell it, whatever the locale."""
    return os.fsdecode(encode_path(path))


def _same(filename: object, path: str) -> bool:
    try:
        return os.fsencode(filename) == encode_path(path)  # type: ignore[arg-type]
    except (TypeError, UnicodeError):
        return False
