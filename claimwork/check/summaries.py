"""Summaries: one for each close at most, counting what the done records say; summary.json shows the newest.

Between the link of a summary and the rename of summary.json the old value is shown for a moment; the second look tells.
"""

from __future__ import annotations

from dataclasses import dataclass

from claimwork import policy, records
from claimwork.errors import RecordError
from claimwork.names import parse_number
from claimwork.records import Summary
from claimwork.repair import Repairer
from claimwork.snapshot import counted

from .disk import Disk, Finding, Mend, Suspicion, gaps, why_not
from .outcomes import OK, OPEN, QUARANTINED, UNVERIFIED
from .plan import Plan

_AGAIN = "it is set aside and made again when all inputs are done"


@dataclass(frozen=True, slots=True)
class _Counts:
    inputs: int
    results: int
    quarantined: int
    is_known: bool


class Summaries:
    """Looks at summary/ and summary.json, after the outcomes. ``complete``: the last generation has its summary."""

    def __init__(self, disk: Disk, plan: Plan) -> None:
        self.complete = False
        self._disk = disk
        self._plan = plan

    def look(self) -> list[Suspicion]:
        """All summaries."""
        found: list[Suspicion] = []
        layout = self._disk.layout
        sound: dict[int, Summary] = {}
        for name in sorted(self._disk.names(layout.summaries)):
            number = parse_number(name)
            if number is None:
                self._disk.note(f"{layout.summaries}/{name}", "is no summary; it is left alone")
            elif number not in self._plan.closes:
                if number not in self._plan.broken:
                    what = (
                        "is of a generation that was never closed; "
                        f"if {layout.segment(number)!r} was lost, restore it, else move this away"
                    )
                    found.append(Suspicion(Finding("summary-unknown", f"{layout.summaries}/{name}", what, None)))
            else:
                summary = self._sound(number, found)
                if summary is not None:
                    sound[number] = summary
        if sound:
            found += self._shown(sound[max(sound)])
        elif "summary.json" in self._disk.names(layout.out):
            self._disk.note(layout.summary_json, "shows a value, and no summary stands; the next summary replaces it")
        self.complete = self._plan.has_ended() and self._plan.last_close() in sound
        return found

    def _sound(self, number: int, found: list[Suspicion]) -> Summary | None:
        path = self._disk.layout.summary(number)
        mend = self._again(number)
        try:
            data = self._disk.record(path, policy.VALUE_LIMIT_BYTES)
            if data is None:
                return None
            summary = records.parse_summary(data, path)
            if (summary.entry, summary.generation) != (number, self._plan.closes[number].generation):
                raise RecordError("it speaks of another generation than its name")
        except (OSError, RecordError) as error:
            found.append(Suspicion(Finding("summary-damaged", path, why_not(error), _AGAIN), mend))
            return None
        uncovered = self._uncovered(number)
        if uncovered is not None:
            what = f"was made although not all inputs are done: segment {uncovered}"
            found.append(Suspicion(Finding("summary-early", path, what, _AGAIN), mend))
            return summary
        counts = self._counts(number)
        if not self._agrees(number, summary, counts):
            what = (
                f"counts {counted(summary.inputs, 'input')}, {counted(summary.results, 'result')} and "
                f"{summary.quarantined} quarantined; "
                f"the done records say {counts.inputs}, {counts.results} and {counts.quarantined}"
            )
            found.append(Suspicion(Finding("summary-counts", path, what, _AGAIN), mend))
        return summary

    def _uncovered(self, entry: int) -> int | None:
        for number, count in sorted(self._plan.segments.items()):
            if number < entry and gaps(count, self._disk.done_ranges(number)):
                return number
        return None

    def _counts(self, entry: int) -> _Counts:
        """What all generations up to the close *entry* come to, each input as it was planned last by then."""
        inputs = results = quarantined = 0
        is_known = self._plan.is_whole
        for number, count in self._plan.segments.items():
            if number < entry:
                states = self._plan.states.get(number, bytearray(count))
                is_known = is_known and OPEN not in states
                inputs += count
                results += states.count(OK) + states.count(UNVERIFIED)
                quarantined += states.count(QUARANTINED)
        for (number, index), (later, _) in self._plan.replaced.items():
            if later < entry:
                inputs -= 1
                results -= self._plan.state(number, index) == OK
                quarantined -= self._plan.state(number, index) == QUARANTINED
        return _Counts(inputs, results, quarantined, is_known)

    def _agrees(self, entry: int, summary: Summary, counts: _Counts) -> bool:
        if not counts.is_known:
            return True
        if entry == self._plan.last_close():
            return (summary.inputs, summary.results, summary.quarantined) == (
                counts.inputs,
                counts.results,
                counts.quarantined,
            )
        # made late, an older one may count the result of an input that was retried since
        return (
            summary.inputs == counts.inputs
            and summary.results >= counts.results
            and summary.results + summary.quarantined == summary.inputs
        )

    def _again(self, number: int) -> Mend:
        def mend(repairer: Repairer) -> None:
            if number == self._plan.last_close():
                repairer.reduce_again(number)
            else:
                repairer.set_aside(self._disk.layout.summary(number))

        return mend

    def _shown(self, newest: Summary) -> list[Suspicion]:
        path = self._disk.layout.summary_json
        try:
            data = self._disk.record(path, policy.VALUE_LIMIT_BYTES)
            if data is not None and _same(records.loads(data, path), newest.value):
                return []
        except (OSError, RecordError):
            pass  # not what it should be, whatever it is
        what = f"does not show the summary of generation {newest.generation}"
        finding = Finding("summary-stale", path, what, "it is made to show it")
        return [Suspicion(finding, lambda repairer: repairer.show(newest.value))]


def _same(one: object, other: object) -> bool:
    try:
        return records.dumps(one) == records.dumps(other)
    except (ValueError, RecursionError):
        return repr(one) == repr(other)
