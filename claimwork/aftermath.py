"""What follows from a child's report: tickets dropped, handed back or split; failures charged, quarantined or held.

The worker's supervisor decides this; children only run and publish. All that stands on disk meanwhile is the ticket, held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from . import policy, records
from .attempts import note, noted
from .blame import Blame
from .claims import Claims, is_control
from .clock import Clock
from .coverage import Coverage
from .effort import Effort
from .errors import ClaimworkError, Exit, Fenced, RecordError, WorkerFault
from .executor import Crashed, Event, Faulted, Finished
from .fs import Fs
from .layout import Layout
from .names import Kind, Ticket
from .parts import publish_part, remove_parts
from .plan_log import PlanLog
from .planner import PlanReport
from .records import BeatRecord, Failure, Job, Outcome, Part
from .results import Places, Stage, is_done, present, settle, settled, write_done
from .snapshot import counted
from .story import Story

_DEATHS_LOADING = 3


class TooManyQuarantined(ClaimworkError):
    """More inputs are quarantined than the job allows."""

    exit_code = Exit.QUARANTINED


@dataclass
class Tally:
    """What a worker did, over all its ids."""

    done: int = 0
    done_bytes: int = 0
    failed: int = 0
    quarantined: int = 0
    reclaimed: int = 0
    fenced: int = 0
    planned: PlanReport | None = None
    complete: bool = False
    stopped_by: int = 0
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True)
class _Held:
    """A failure that nobody is charged for yet; the ticket stands for its one input."""

    ticket: Ticket
    kind: str
    error: str
    detail: str


@dataclass
class Aftermath:
    """One id of a worker deciding what follows. ``fault`` is set when the worker is to stop."""

    fs: Fs
    layout: Layout
    job: Job
    stage: Stage
    claims: Claims
    coverage: Coverage
    clock: Clock
    identity: BeatRecord
    tally: Tally
    blame: Blame
    story: Story
    is_stopping: Callable[[], bool]
    backlog: list[Ticket] = field(default_factory=list)  # held, not started
    shedding: set[str] = field(default_factory=set)  # names of tickets that were asked to stop early
    fault: ClaimworkError | None = None
    _held: list[_Held] = field(default_factory=list)
    _control: Ticket | None = None
    _control_runs: bool = False
    _looked_at: int = 0  # so many failures were held when no control was found
    _deaths: int = 0  # of children that were loading the task, one after the other

    def __post_init__(self) -> None:
        self._log = PlanLog(self.fs, self.layout)

    def of(self, event: Event) -> None:
        """Do what follows from *event*. Raises Fenced when the child found this worker fenced."""
        ticket = event.ticket
        if self._control_runs and ticket is self._control:
            self._control_ended(event)
            return
        match event:
            case Faulted():
                self.faulted(event)
                self.claims.release(ticket, ticket.successor())
            case Crashed():
                self._crashed(event)
            case Finished() if event.mapped is not None:
                self._deaths = 0
                self._mapped(event)
            case Finished():
                if event.planned is not None:
                    self.tally.planned = event.planned
                    self.story.planned(ticket, event.planned)
                if event.reduced is not None:
                    self.story.reduced(ticket, event.reduced)
                self.claims.drop(ticket)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def _mapped(self, event: Finished) -> None:
        ticket, report = event.ticket, event.mapped
        assert report is not None
        self.tally.done += report.done
        self.tally.done_bytes += report.done_bytes
        self.tally.effort += report.effort
        for path, size, took_s in report.ran:
            self.story.ran(ticket, path, size, took_s)
        if report.done > report.adopted + report.gathered or (ticket.kind is Kind.PART and report.done_bytes):
            self.blame.succeeded()  # to gather what others computed is no sign that a worker is sound
        if ticket.kind is Kind.PART and report.failures:
            [(failure, final)] = report.failures
            self.fail(ticket, failure.kind, failure.error, failure.detail, final=final)
            self.weigh(more_inputs=True)
            return
        shed = ticket.name in self.shedding
        self.shedding.discard(ticket.name)
        failed = [policy.part_of(ticket, failure.index, failure.index + 1) for failure, _ in report.failures]
        rest = _pieces(ticket, report.stopped_at, shed=shed and not self.claims.many_wait())
        if not failed and not rest:
            self.claims.drop(ticket)
        elif not failed and len(rest) == 1:
            self.claims.release(ticket, rest[0])  # one step: the finished prefix is in its done record
        else:
            self.claims.split(ticket, [*failed, *rest])
            for part, (failure, final) in zip(failed, report.failures, strict=True):
                self.fail(part, failure.kind, failure.error, failure.detail, final=final)
            for part in rest:
                self.claims.release(part, part.successor())
        self.weigh(more_inputs=True)

    def _crashed(self, event: Crashed) -> None:
        ticket, index = event.ticket, event.index
        self.shedding.discard(ticket.name)
        if not event.loaded:
            self._died_loading(event)
            return
        self._deaths = 0
        if is_control(ticket):
            self._plan_or_reduce_crashed(event)
            return
        if index is None:  # between two inputs: nobody in particular is to blame
            successors = [ticket.successor()] if self.is_stopping() else policy.after_loss(ticket)
            if len(successors) == 1:
                self.claims.release(ticket, successors[0])
            else:
                self.claims.split(ticket, successors)
                for part in successors:
                    self.claims.release(part, part.successor())
            return
        failed = ticket
        if ticket.kind is not Kind.PART:
            failed, rest = policy.part_of(ticket, index, index + 1), _neighbours(ticket, index)
            self.claims.split(ticket, [failed, *rest])
            self.backlog += rest
        self.fail(failed, event.kind, event.error, event.detail, final=False)
        self.weigh(more_inputs=True)

    def overtaken(self, ticket: Ticket, index: int) -> None:
        """An input of a ticket that I hold was ended here since it is done elsewhere; its neighbours run again, uncharged."""
        self.shedding.discard(ticket.name)
        rest = _neighbours(ticket, index)
        if rest:
            self.claims.split(ticket, rest)
            self.backlog += rest
        else:
            self.claims.drop(ticket)

    def _died_loading(self, event: Crashed) -> None:
        """No input had begun, so none is charged; a worker whose children die in a row as they load the task stops."""
        self.claims.release(event.ticket, event.ticket.successor())
        self._deaths += 1
        if self._deaths >= _DEATHS_LOADING:
            self.fault = self.fault or WorkerFault(
                f"{self._deaths} child processes in a row ended as they loaded the task, the last one since "
                f"{event.error}: is the image whole and made for this processor, and is there memory enough? "
                "No input was charged for it"
            )

    def _give_part_up(self, ticket: Ticket, error: str) -> None:
        """Say that a part that I hold has no value, so that whoever gathers waits no more and computes it, and is charged."""
        publish_part(self.fs, self.layout, self.stage, ticket.segment, ticket.lo, Part(error=error))
        self.claims.drop(ticket)
        self.story.part_given_up(ticket, error)

    @property
    def holds_parts(self) -> bool:
        """Whether parts failed here and a control is to tell why: until then, more of them would fail alike."""
        return any(each.ticket.kind is Kind.PART for each in self._held)

    def fail(self, ticket: Ticket, kind: str, error: str, detail: str, *, final: bool) -> None:
        """One attempt of a one-input ticket that I hold failed. *final*: whoever ran it, it would fail again.

        A part is held only if a control can tell whom to blame: a broken worker would fail all parts in no time.
        """
        failed = _Held(ticket, kind, error, detail)
        if final:
            self._charge(failed, final=True)
        elif self.is_stopping():  # systemd and Slurm signal what a task has started, too
            self.claims.release(ticket, ticket.successor())
        elif self.blame.failed(ticket.segment, ticket.first_input):
            self._charge(failed, final=False)
        else:
            self._held.append(failed)
            if ticket.kind is Kind.PART and not (self._control_runs or self._find_control()):
                self._held.pop()
                self._looked_at = len(self._held)
                self._charge(failed, final=False)

    def _charge(self, failed: _Held, *, final: bool) -> None:
        """Back to ready after a back-off with attempt + 1, or into quarantine."""
        ticket = failed.ticket
        if ticket.kind is Kind.PART:
            self._give_part_up(ticket, failed.error)
            return
        inputs = self._log.segment(ticket.segment).inputs
        if ticket.lo >= len(inputs) or is_done(self.fs, self.layout, ticket.segment, ticket.lo):
            # somebody made it up, or died before dropping it: since then it may have been retried
            self.claims.drop(ticket)
            return
        self.tally.failed += 1
        each = inputs[ticket.lo]
        failure = self._note(ticket, ticket.lo, each.path, failed.kind, failed.error, failed.detail)
        again = None if final else policy.after_failure(ticket, ticket.lo, self.job.max_attempts, self.job.backoff_s)
        if again is not None:
            self.claims.release(ticket, again)
            self.story.backed_off(ticket, each.path, failed.error, self.job.max_attempts, again.delay_ms / 1000)
            return
        places = Places.of(self.layout, self.job, ticket.segment, ticket.lo, each)
        outcome = self._existing(places)
        if outcome is None:
            failures = noted(self.fs, self.layout, ticket.segment, ticket.lo) or [failure]
            report = records.encode_quarantine(self.job.id, failures, each.path, ticket.segment, ticket.lo)
            staged = self.stage.put(report)
            self.stage.flush(staged)
            _, outcome = settle(self.fs, self.layout, self.job, places, staged)
            self.stage.discard(staged)
        self.tally.quarantined += not outcome.ok
        if not outcome.ok:
            self.story.quarantined(ticket, each.path, failed.error)
        directories = places.directories(ok=outcome.ok)
        write_done(self.fs, self.layout, self.stage, ticket.segment, {ticket.lo: outcome}, directories)
        if policy.is_split(each.size_bytes, self.job.split_bytes):
            remove_parts(self.fs, self.layout, ticket.segment)
        self.claims.drop(ticket)
        self.mind_quarantine()

    def _existing(self, places: Places) -> Outcome | None:
        """The outcome of a result that is there already, its publication completed; None without one, or when something else
        is in its place.
        """
        try:
            if not present(self.fs, places.result):
                return None
            return settled(self.fs, self.layout, self.job, places, self.stage.path())
        except (RecordError, IsADirectoryError):
            return None

    def _note(self, ticket: Ticket, index: int, name: str, kind: str, error: str, detail: str) -> Failure:
        failure = Failure(
            name,
            ticket.segment,
            index,
            ticket.attempt,
            kind,
            error,
            detail,
            self.identity.worker,
            self.identity.host,
            self.clock.time(),
        )
        note(self.fs, self.layout, self.stage, failure)
        return failure

    def mind_quarantine(self) -> None:
        """Stop when more inputs are quarantined than the job allows."""
        allowed = self.job.max_quarantined
        if allowed is None or self.fault is not None:
            return
        found = len(self.coverage.reports(self.job))
        if found > allowed:
            self.fault = TooManyQuarantined(
                f"{counted(found, 'input is', 'inputs are')} quarantined, and the job allows {allowed}; "
                f"look at {self.layout.quarantine!r}, then: claimwork retry {self.layout.out}"
            )

    # -- plan and reduce ----------------------------------------------------------------------------------------------

    def _plan_or_reduce_crashed(self, event: Crashed) -> None:
        ticket = event.ticket
        if ticket.kind is Kind.REDUCE:  # a plan ticket's segment is 0, whose input 0 has its attempts there
            self._note(ticket, 0, "reduce", event.kind, event.error, event.detail)
        attempt = ticket.attempt + 1
        again = ticket.successor(attempt=attempt, delay_ms=policy.backoff_ms(attempt, self.job.backoff_s))
        self.claims.release(ticket, again)
        self.story.failed(ticket, event.error, again.delay_ms / 1000)

    def faulted(self, event: Faulted) -> None:
        """A fault of the worker, its mount or its task. Raises Fenced."""
        if isinstance(event.error, Fenced):
            raise event.error
        self.fault = self.fault or event.error

    # -- whom to blame ------------------------------------------------------------------------------------------------

    @property
    def in_doubt(self) -> bool:
        """Whether failures are held, since this worker may be to blame for them."""
        return bool(self._held)

    def next_control(self) -> Ticket | None:
        """An input with a result, to be run here once more (`Executor.start` with ``control``); None: no need."""
        if self._control_runs or not self._find_control():
            return None
        self._control_runs = True
        return self._control

    def weigh(self, *, more_inputs: bool) -> bool:
        """Charge or stop, if the evidence is enough; whether that was decided. *more_inputs*: more may be claimed."""
        if not self._held or self._control_runs or self.fault is not None or self.is_stopping():
            return False
        if not more_inputs:
            self._looked_at = 0
        verdict = self.blame.verdict(can_control=self._find_control(), more_inputs=more_inputs)
        if verdict == "worker":
            self.fault = self._worker_fault()
        elif verdict == "inputs":
            held, self._held, self._looked_at = self._held, [], 0
            for each in held:
                self._charge(each, final=False)
        return verdict != "open"

    def _find_control(self) -> bool:
        """Whether there is a control to run. Looks again only when more failures are held than before."""
        if self.blame.sound or not self._held:
            return False
        if self._control is None and self._looked_at < len(self._held):
            self._looked_at = len(self._held)
            self._control = self.coverage.finished(self.blame.controls) or self.coverage.finished(())
        return self._control is not None

    def _control_ended(self, event: Event) -> None:
        control = event.ticket
        self._control, self._control_runs, self._looked_at = None, False, 0
        match event:
            case Faulted():
                self.faulted(event)
                return
            case Crashed():
                self.blame.control_failed(control.segment, control.lo)
            case Finished():
                report = event.mapped
                assert report is not None
                if report.done:
                    self.blame.succeeded()
                elif report.failures:
                    self.blame.control_failed(control.segment, control.lo)
        self.weigh(more_inputs=True)

    def _worker_fault(self) -> WorkerFault:
        last = self._held[-1]
        path = self._log.segment(last.ticket.segment).inputs[last.ticket.first_input].path
        first = "the first input" if len(self._held) == 1 else f"the first {len(self._held)} inputs all"
        why = (
            "inputs that succeeded elsewhere fail here as well"
            if self.blame.controls
            else f"{first} failed here, and nothing in the job has succeeded yet"
        )
        return WorkerFault(
            f"{why}, last {path!r} with {last.error}: is the image whole, and all mounted that the task needs? "
            "The inputs are not charged for it; with --fault-after 0 they would be"
        )


def _neighbours(ticket: Ticket, index: int) -> list[Ticket]:
    """A ticket without one of its inputs."""
    return [policy.part_of(ticket, lo, hi) for lo, hi in ((ticket.lo, index), (index + 1, ticket.hi)) if lo < hi]


def _pieces(ticket: Ticket, start: int, *, shed: bool) -> list[Ticket]:
    """The unfinished rest of a ticket; in some pieces when it was stopped because it lasts, and others lack work."""
    if start >= ticket.hi:
        return []
    count = min(32, (ticket.hi - start) // max(1, start - ticket.lo) + 1) if shed else 1
    edges = [start + (ticket.hi - start) * nth // count for nth in range(count + 1)]
    return [policy.part_of(ticket, lo, hi) for lo, hi in pairwise(edges) if lo < hi]
