"""Check: verify a job from what is on the disk alone, and mend what can be mended.

It shares names, layout, records and system calls with the workers and none of their decisions, so that a mistake
there cannot hide itself here. Sequence: learn the plan; look at every area (workers, tickets, the outcomes of one
segment at a time, the two result trees, the summaries); wait; look again at the areas that seemed wrong. **A finding is
what was seen twice, some seconds apart**: what a running job shows in passing is none. Looking changes nothing.

With *repair* each confirmed finding is mended as far as it can be, by steps that any number of running workers may
witness. What must stop counting is set aside in ``.claimwork/aside``; only tickets that stand for nothing and what dead
workers staged are removed. A result is never replaced: one that is not what its done record says is refused, and the
finding says what a person should do.

Failure rule: whatever bytes or files are on the mount become findings, never an exception. A repair that dies is run
again. Memory: the names of all results, one byte for each input, and one segment at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from claimwork.clock import Clock, SystemClock
from claimwork.errors import ClaimworkError, RecordError
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.policy import MISSING_AFTER_S
from claimwork.records import Job
from claimwork.repair import Repairer

from .disk import Disk, Finding, Suspicion, in_words
from .job import open_job
from .outcomes import OK, QUARANTINED, Outcomes
from .parts import Parts
from .plan import Plan
from .summaries import Summaries
from .tickets import Tickets
from .tree import Trees
from .workers import Workers

__all__ = ["CheckReport", "Finding", "check"]

Area = Callable[[], list[Suspicion]]


@dataclass
class CheckReport:
    """What was found. ``open`` inputs have no outcome, or one that could not be verified; ``notes`` need no action."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    inputs: int = 0
    results: int = 0
    quarantined: int = 0
    open: int = 0
    complete: bool = False

    @property
    def clean(self) -> bool:
        """Nothing was found that matters."""
        return all(each.harmless for each in self.findings)


def check(
    fs: Fs,
    layout: Layout,
    *,
    repair: bool = False,
    progress: Callable[[int], None] | None = None,
    clock: Clock | None = None,
) -> CheckReport:
    """Verify the job in OUT. *progress* is told how many inputs were looked at; *clock* waits for the second look.

    With *repair* the findings are those before it; run it again to see what is left.
    """
    disk = Disk(fs, layout)
    job, found = open_job(disk)
    if job is None:
        return CheckReport(found)
    looks = _Looks(disk, job)
    looks.at_all(progress or (lambda _count: None))
    suspicions = looks.confirmed(clock or SystemClock())
    report = looks.report()
    report.findings = [each.finding for each in suspicions]
    if repair and suspicions:
        report.findings = _mend(disk, job, looks, suspicions)
    return report


class _Looks:
    def __init__(self, disk: Disk, job: Job) -> None:
        self._disk = disk
        self._job = job
        self.plan = Plan(disk, job)
        self._outcomes = Outcomes(disk, job, self.plan)
        self.tickets = Tickets(disk, job, self.plan)
        self._trees = Trees(disk, self.plan)
        self._summaries = Summaries(disk, self.plan)
        self._workers = Workers(disk)
        self._parts = Parts(disk, self.plan)
        self._doubts: list[tuple[Area, list[Suspicion]]] = []

    def at_all(self, progress: Callable[[int], None]) -> None:
        found = _guarded(self.plan.learn)
        if found:
            self._doubts.append((lambda: Plan(self._disk, self._job).learn(), found))
        self._look(self._disk.missing_directories)
        self._look(self._workers.look)
        self._look(self.tickets.look)
        self._look(self._parts.look)
        count = 0
        for number, inputs in sorted(self.plan.segments.items()):
            self._look(partial(self._outcomes.look, number))
            count += inputs
            progress(count)
        self._look(self._trees.results)
        self._look(self._trees.reports)
        self._look(self._outcomes.unplanned)
        self._look(self._summaries.look)

    def _look(self, area: Area) -> None:
        found = _guarded(area)
        if found:
            self._doubts.append((area, found))

    def confirmed(self, clock: Clock) -> list[Suspicion]:
        """What a second look sees as well, each once."""
        if not self._doubts:
            return []
        clock.sleep(MISSING_AFTER_S)
        _guarded(self.plan.learn)  # an input that was retried since is to be seen as such
        found: dict[tuple[str, str], Suspicion] = {}
        for area, before in self._doubts:
            known = {each.key for each in before}
            for each in _guarded(area):
                if each.key in known:
                    found.setdefault(each.key, each)
        return list(found.values())

    def report(self) -> CheckReport:
        """The counts of what was seen, each input as it was planned last."""
        plan = self.plan
        report = CheckReport(inputs=sum(plan.segments.values()) - len(plan.replaced))
        for number, count in plan.segments.items():
            states = plan.states.get(number, bytearray(count))
            report.results += states.count(OK)
            report.quarantined += states.count(QUARANTINED)
        for number, index in plan.replaced:
            state = plan.state(number, index)
            report.results -= state == OK
            report.quarantined -= state == QUARANTINED
        report.open = report.inputs - report.results - report.quarantined
        report.complete = self._summaries.complete and not report.open
        report.notes = [each.finding for each in self._disk.notes()]
        return report


def _guarded(area: Area) -> list[Suspicion]:
    try:
        return area()
    except OSError as error:
        return [Suspicion(Finding("unreadable", str(error.filename), f"cannot be read: {in_words(error)}", None))]
    except RecordError as error:
        return [Suspicion(Finding("unreadable", "", str(error), None))]


def _mend(disk: Disk, job: Job, looks: _Looks, suspicions: list[Suspicion]) -> list[Finding]:
    """Mend in the order found, then offer again what was opened; the findings, and what could not be mended."""
    repairer = Repairer(disk.fs, disk.layout, job)
    findings = []
    try:
        for each in suspicions:
            findings.append(each.finding)
            try:
                if each.mend is not None:
                    each.mend(repairer)
            except (OSError, ClaimworkError) as error:
                what = f"{each.finding.what}; the repair failed: {in_words(error)}"
                findings[-1] = replace(each.finding, what=what, repair=None)
        for path, words in looks.tickets.offer_open(repairer):
            findings.append(Finding("unrepaired", path, words, None))
    finally:
        repairer.close()
    return findings
