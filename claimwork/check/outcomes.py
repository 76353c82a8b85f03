"""Outcomes: what the done records of a segment say, compared with the results and reports that stand.

A result is published before its done record, and a report too; neither ever changes. So whatever a done record says can
be held against the disk at any time. Where they differ the result is right and the record set aside, but for a result
that no record knows: that is refused. A result outranks a report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from claimwork import records
from claimwork.errors import RecordError
from claimwork.names import parse_number, parse_range
from claimwork.policy import INLINE_BYTES
from claimwork.records import Input, Job, Outcome, Segment
from claimwork.repair import Repairer, report_of
from claimwork.snapshot import counted

from .disk import Content, Disk, Finding, Mend, Suspicion, in_words, why_not
from .plan import Plan

OPEN, OK, QUARANTINED, UNVERIFIED = range(4)

_OFFERED = "is set aside and its inputs are offered again; results that exist are adopted"
_CHANGED = "claimwork check --repair then has it made again"


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one done record says of an input."""

    record: tuple[int, int]
    outcome: Outcome


@dataclass(frozen=True)
class _At:
    """One input, where its outcome belongs, and what is said of it."""

    segment: int
    index: int
    each: Input
    result: str
    report: str
    settled: str | None
    claims: list[_Claim]

    def reopen(self, repairer: Repairer, claims: list[_Claim]) -> None:
        repairer.reopen(self.segment, sorted({claim.record for claim in claims}))


class Outcomes:
    """Looks at the done records of one segment at a time; leaves a byte for each input in ``plan.states``."""

    def __init__(self, disk: Disk, job: Job, plan: Plan) -> None:
        self._disk = disk
        self._job = job
        self._plan = plan

    def look(self, number: int) -> list[Suspicion]:
        """Segment *number*."""
        try:
            segment = self._plan.entry(number)
        except RecordError:
            return []  # the plan has told
        if not isinstance(segment, Segment):
            return []
        found: list[Suspicion] = []
        layout = self._disk.layout
        claims = self._claims(number, len(segment.inputs), found)
        settled = set(self._disk.names(layout.settled_of(number)))
        states = bytearray(len(segment.inputs))
        for index, each in enumerate(segment.inputs):
            if claims[index]:
                at = _At(
                    number,
                    index,
                    each,
                    f"{layout.results}/{self._plan.result_of(each)}",
                    f"{layout.quarantine}/{self._plan.report_of(each)}",
                    f"{layout.settled_of(number)}/{index}" if str(index) in settled else None,
                    claims[index],
                )
                states[index] = self._look_at(at, found)
        self._plan.states[number] = states
        return found

    def unplanned(self) -> list[Suspicion]:
        """Done records of segments that the plan does not have."""
        found = []
        layout = self._disk.layout
        for name in self._disk.names(layout.done):
            number = parse_number(name)
            if number is None:
                self._disk.note(f"{layout.done}/{name}", "belongs to no segment; it is left alone")
            elif (
                number not in self._plan.segments and number not in self._plan.broken and self._disk.done_ranges(number)
            ):
                what = (
                    "speaks of a segment that was never planned; "
                    f"if {layout.segment(number)!r} was lost, restore it, else move this away"
                )
                found.append(Suspicion(Finding("done-unknown", layout.done_of(number), what, None)))
        return found

    def _claims(self, number: int, count: int, found: list[Suspicion]) -> list[list[_Claim]]:
        claims: list[list[_Claim]] = [[] for _ in range(count)]
        directory = self._disk.layout.done_of(number)
        for name in sorted(self._disk.names(directory)):
            path = f"{directory}/{name}"
            record = parse_range(name)
            if record is None:
                self._disk.note(path, "is no done record; it is left alone")
                continue
            try:
                outcomes = self._read(path, number, record, count)
            except (OSError, RecordError) as error:
                finding = Finding("done-damaged", path, why_not(error), f"it {_OFFERED}")
                found.append(Suspicion(finding, _reopener(number, record)))
                continue
            for index, outcome in enumerate(outcomes, record[0]):
                claims[index].append(_Claim(record, outcome))
        return claims

    def _read(self, path: str, number: int, record: tuple[int, int], count: int) -> list[Outcome]:
        data = self._disk.record(path, records.DONE_LIMIT_BYTES)
        if data is None:
            raise RecordError("it is gone")
        done = records.parse_done(data, path)
        if (done.segment, done.lo, done.hi) != (number, *record):
            raise RecordError("it speaks of other inputs than its name")
        if done.hi > count:
            raise RecordError(f"it speaks of inputs beyond the {count} of its segment")
        return done.outcomes

    def _look_at(self, at: _At, found: list[Suspicion]) -> int:
        oks = [claim for claim in at.claims if claim.outcome.ok]
        if (at.segment, at.index) in self._plan.replaced:
            if oks:
                what = "was planned again although it has a result; the result stands, and nothing needs to be done"
                found.append(Suspicion(Finding("retry-unfounded", at.result, what, None)))
            return OK if oks else QUARANTINED
        return self._with_result(at, oks, found) if oks else self._without_result(at, found)

    def _with_result(self, at: _At, oks: list[_Claim], found: list[Suspicion]) -> int:
        content = self._content(at.result, INLINE_BYTES, found)
        if isinstance(content, int):
            return content
        if content is None:
            what = "its done record says that it was published, and it is gone"
            repair = f"the done record {_OFFERED}"
            found.append(Suspicion(Finding("result-missing", at.result, what, repair), self._without(at, oks)))
            return UNVERIFIED
        same = [claim for claim in oks if (claim.outcome.size_bytes, claim.outcome.digest) == content[:2]]
        if not same:
            said = oks[0].outcome
            what = (
                f"has {counted(content[0], 'byte')} with digest {content[1]}, "
                f"and was published with {said.size_bytes} and {said.digest}: somebody changed it. "
                f"Put the original back, or move this file away; {_CHANGED}"
            )
            found.append(Suspicion(Finding("result-altered", at.result, what, None)))
            return UNVERIFIED
        wrong = [claim for claim in at.claims if claim not in same or not _has_value_of(claim.outcome, content[2])]
        for record in sorted({claim.record for claim in wrong}):
            path = f"{self._disk.layout.done_of(at.segment)}/{record[0]}-{record[1]}"
            what = f"says of input {at.index} what its result does not confirm"
            finding = Finding("done-disagrees", path, what, f"it {_OFFERED}")
            found.append(Suspicion(finding, _reopener(at.segment, record)))
        if at.settled is not None and self._is_report(at, at.settled):
            what = f"says that {at.each.path!r} is quarantined, and its result stands"
            finding = Finding("settled-disagrees", at.settled, what, "it is set aside: a result outranks a report")
            found.append(Suspicion(finding, set_aside(at.settled)))
        return OK

    def _without_result(self, at: _At, found: list[Suspicion]) -> int:
        if self._has_result(at.result):
            what = f"{at.each.path!r} is quarantined by its done record, and has a result"
            repair = "the result outranks: report and done record are set aside, and the input is offered again"
            found.append(Suspicion(Finding("both", at.report, what, repair), self._outranked(at)))
            return OK
        state = self._look_at_report(at, found)
        if at.settled is not None and not self._is_report(at, at.settled):
            what = f"is no report of {at.each.path!r}, which is quarantined by its done record"
            finding = Finding("settled-disagrees", at.settled, what, "it is set aside")
            found.append(Suspicion(finding, set_aside(at.settled)))
        return state

    def _look_at_report(self, at: _At, found: list[Suspicion]) -> int:
        content = self._content(at.report, records.SMALL_LIMIT_BYTES, found)
        if isinstance(content, int):
            return content
        fits = self._fits(at)
        if content is not None and content[2] is not None and fits(content[2]):
            return QUARANTINED
        how = "it is written again from the record of its attempts"
        if content is None:
            finding = Finding("report-missing", at.report, f"the quarantine report of {at.each.path!r} is gone", how)
        else:
            what = f"is not the quarantine report of {at.each.path!r} in this job"
            finding = Finding("report-damaged", at.report, what, f"it is set aside, and {how.removeprefix('it is ')}")

        def rewrite(repairer: Repairer) -> None:
            repairer.set_aside(at.report)
            repairer.write_report(at.segment, at.index, at.each, at.report, at.claims[0].outcome.reason)

        found.append(Suspicion(finding, rewrite))
        return QUARANTINED

    def _content(self, path: str, keep_bytes: int, found: list[Suspicion]) -> Content | int | None:
        """What stands at *path*; UNVERIFIED after telling why it cannot be read."""
        try:
            return self._disk.file(path, keep_bytes)
        except RecordError:
            found.append(not_plain(path))
        except OSError as error:
            what = f"cannot be read: {in_words(error)}; mend that, then check again"
            found.append(Suspicion(Finding("unreadable", path, what, None)))
        return UNVERIFIED

    def _has_result(self, path: str) -> bool:
        """Whether a plain file stands there; anything else may be why the input was quarantined."""
        try:
            if self._disk.fs.inode(path) is None:
                return False
            return self._disk.file(path, 0) is not None
        except RecordError:
            self._disk.note(path, "takes the place of a result: move it away, then run claimwork retry")
        except OSError:
            pass  # a file stands where a directory of results belongs: the tree tells
        return False

    def _fits(self, at: _At) -> Callable[[bytes], bool]:
        return report_of(self._job.id, at.segment, at.index, at.each.path)

    def _is_report(self, at: _At, path: str) -> bool:
        try:
            content = self._disk.file(path, records.SMALL_LIMIT_BYTES)
        except (OSError, RecordError):
            return False
        return content is not None and content[2] is not None and self._fits(at)(content[2])

    def _without(self, at: _At, oks: list[_Claim]) -> Mend:
        """Open an input whose result is gone; a settled copy that is not what was published must not come back."""
        known = {(claim.outcome.size_bytes, claim.outcome.digest) for claim in oks}

        def mend(repairer: Repairer) -> None:
            if at.settled is not None:
                try:
                    content = self._disk.file(at.settled, 0)
                except RecordError:
                    content = None
                if content is None or content[:2] not in known:
                    repairer.set_aside(at.settled)
            at.reopen(repairer, oks)

        return mend

    def _outranked(self, at: _At) -> Mend:
        def mend(repairer: Repairer) -> None:
            repairer.set_aside(at.report)
            if at.settled is not None:
                repairer.set_aside(at.settled)
            at.reopen(repairer, at.claims)

        return mend


def not_plain(path: str) -> Suspicion:
    """A finding that cannot be mended: nobody knows what the thing is for."""
    what = f"a link, a directory or a device stands where a file of this job belongs: move it away; {_CHANGED}"
    return Suspicion(Finding("not-plain", path, what, None))


def _has_value_of(outcome: Outcome, data: bytes | None) -> bool:
    """Whether the value in a done record is the one in the result."""
    if not outcome.has_value or data is None:
        return True
    try:
        value = records.loads(data, "a result")
    except RecordError:
        value = data.decode("utf-8", "replace")
    try:
        return records.dumps(value) == records.dumps(outcome.value)
    except (ValueError, RecursionError):
        return repr(value) == repr(outcome.value)  # NaN, which is not equal to itself


def _reopener(number: int, record: tuple[int, int]) -> Mend:
    return lambda repairer: repairer.reopen(number, [record])


def set_aside(path: str) -> Mend:
    """The step that takes a file out of its place."""
    return lambda repairer: repairer.set_aside(path)
