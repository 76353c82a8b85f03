"""Coverage: which inputs are done, whether a generation is, and which tickets have gone missing.

Done is positive evidence only: a segment is done when its done records cover it. Segments found complete are remembered, so a
look costs one listing of the last segment that is not: the lightest inputs come last, so that one is found at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .attempts import count_noted
from .claims import Claims
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import Kind, Ticket, is_worker, map_ticket, number_name, numbers_among, part_ticket, tickets_among
from .parts import known_parts
from .plan_log import PlanLog
from .policy import LOSSES_OF_A_REDUCTION, missing_ranges, weight_class
from .records import Close, Job
from .results import Places, done_ranges, read_done


@dataclass(frozen=True, slots=True)
class JobState:
    """How far the job is: the last closed generation, whether planning goes on, whether all is covered and reduced."""

    close: tuple[int, Close] | None
    planning: bool
    covered: bool
    reduced: bool

    @property
    def complete(self) -> bool:
        """Nothing is left to do."""
        return self.close is not None and not self.planning and self.covered and self.reduced


class Coverage:
    """What this process knows of the done records."""

    def __init__(self, fs: Fs, layout: Layout, log: PlanLog) -> None:
        self._fs = fs
        self._layout = layout
        self._log = log
        self._full: set[int] = set()
        self._open = -1  # the segment last found not covered

    def state(self, *, thorough: bool = True) -> JobState:
        """Look at the log, the done records and the summaries.

        Not *thorough*: a summary is taken to say that all is done, and without one nothing is: a crowd that waits for the end
        does not list each segment for each of its workers, nor the log, whatever has been planned since, unless that is reduced.
        """
        known = None if thorough else self._log.last_known()
        if known is not None and not self._is_reduced_since(known[0]):
            return JobState(known, planning=False, covered=False, reduced=False)
        closes, ended = self._log.closes()
        if not closes:
            return JobState(None, planning=True, covered=False, reduced=False)
        number, close = closes[-1]
        covered = self.covers(closes) if thorough else self.is_reduced(number)
        reduced = covered and (not thorough or self.is_reduced(number))
        return JobState((number, close), planning=not ended, covered=covered, reduced=reduced)

    def is_reduced(self, entry: int) -> bool:
        """Whether the generation that the close at *entry* ends has its summary."""
        return number_name(entry) in self._fs.names(self._layout.summaries)

    def _is_reduced_since(self, entry: int) -> bool:
        """Whether that or a later generation has its summary, which an earlier one then may never get."""
        return any(number >= entry for number in numbers_among(self._fs.names(self._layout.summaries)))

    def covers(self, closes: Iterable[tuple[int, Close]]) -> bool:
        """Whether every input of these generations is done."""
        segments = [segment for _, close in closes for segment in close.segments if segment[0] not in self._full]
        segments.sort(key=lambda segment: segment[0] == self._open)
        return all(self.is_full(number, count) for number, count, _ in reversed(segments))

    def is_full(self, segment: int, count: int) -> bool:
        """Whether the done records of a segment cover it."""
        if segment in self._full:
            return True
        if missing_ranges(count, done_ranges(self._fs, self._layout, segment)):
            self._open = segment
            return False
        self._full.add(segment)
        return True

    def reports(self, job: Job) -> list[str]:
        """Paths of the quarantine reports that stand, sorted; one of an input that is planned again does not."""
        waiting = self.retried_waiting(job)
        found: list[str] = []
        pending = [self._layout.quarantine]
        while pending:
            directory = pending.pop()
            try:
                names = self._fs.names(directory)
            except OSError:
                continue  # gone, or not a directory
            for name in names:  # a directory never ends like a report
                (found if name.endswith(".json") else pending).append(f"{directory}/{name}")
        return sorted(path for path in found if path not in waiting)

    def retried_waiting(self, job: Job) -> set[str]:
        """Places of the reports of inputs that are planned again and have not ended since."""
        found: set[str] = set()
        closes, _ = self._log.closes()
        for _, close in closes:
            for number, count, _ in close.segments if close.retried else ():
                if self.is_full(number, count):
                    continue
                inputs = self._log.segment(number).inputs
                for lo, hi in missing_ranges(count, done_ranges(self._fs, self._layout, number)):
                    for index in range(lo, hi):
                        if inputs[index].of is not None:
                            found.add(Places.of(self._layout, job, number, index, inputs[index]).quarantine)
        return found

    def covers_entry(self, entry: int, *, look: bool = True) -> bool:
        """Whether all that the close at *entry* ends is done; False when there is no such close.

        Without a *look* only what was found done before counts, and nothing is listed.
        """
        closes = self._log.closes_until(entry)
        if not look:
            return bool(closes) and all(number in self._full for _, close in closes for number, _, _ in close.segments)
        return bool(closes) and self.covers(closes)

    def is_spent(self, ticket: Ticket, job: Job) -> bool:
        """Whether a reduce ticket failed as often as it may. Being lost with its worker is no failure of the reducer."""
        if ticket.attempt <= job.max_attempts:
            return False
        failed = count_noted(self._fs, self._layout, ticket.segment)
        return failed >= job.max_attempts or ticket.attempt > job.max_attempts + LOSSES_OF_A_REDUCTION

    def finished(self, passed_over: Iterable[tuple[int, int]]) -> Ticket | None:
        """One input that somebody has a result of, and none of *passed_over*, as a ticket for itself; a small one.

        Where there is none, a part that somebody has a value of.
        """
        tried = set(passed_over)
        for number in sorted(numbers_among(self._fs.names(self._layout.done)), reverse=True):
            for lo, hi in reversed(done_ranges(self._fs, self._layout, number)):  # the smallest come last
                try:
                    outcomes = read_done(self._fs, self._layout, number, lo, hi).outcomes
                except RecordError:
                    continue  # `check` finds it
                for index in range(hi - 1, lo - 1, -1):
                    if outcomes[index - lo].ok and (number, index) not in tried:
                        return map_ticket(0, 0, number, index, index + 1, outcomes[index - lo].size_bytes)
        return self._finished_part(tried)

    def _finished_part(self, tried: set[tuple[int, int]]) -> Ticket | None:
        try:
            names = self._fs.names(self._layout.parts)
        except FileNotFoundError:  # an older release made this job
            return None
        for number in sorted(numbers_among(names)):
            for nth in sorted(known_parts(self._fs, self._layout, number).values):
                if (number, nth) not in tried:
                    return part_ticket(0, 0, number, nth, 0)
        return None

    def missing_tickets(self, claims: Claims, nonce: str, seen: Iterable[Ticket] | None = None) -> list[Ticket]:
        """Tickets to offer for ranges that are neither done nor in any ticket that a listing shows.

        *seen* are those of `Claims.ready` and then `held`, when the caller has just listed them. A ticket on its way from one
        directory to another may be missed: call twice, some seconds apart, and offer only what was missing both times. They
        start at attempt 2, whose outcomes are settled exclusively; only an owner at attempt 1
        that no listing showed could still publish beside a quarantine, and `check` names that.
        """
        present: dict[int, list[tuple[int, int]]] = {}
        listed = [*claims.ready(), *self.held()] if seen is None else seen
        for ticket in [*listed, *claims.ready()]:
            if ticket.kind is Kind.MAP:
                present.setdefault(ticket.segment, []).append((ticket.lo, ticket.hi))
        missing = []
        closes, _ = self._log.closes()
        for _, close in closes:
            for number, count, _ in close.segments:
                if self.is_full(number, count):
                    continue
                done = done_ranges(self._fs, self._layout, number)
                for lo, hi in missing_ranges(count, done + present.get(number, [])):
                    missing += self._tickets_for(number, lo, hi, nonce)
        return missing

    def held(self) -> list[Ticket]:
        """All tickets that somebody holds who is alive or about to be buried, by fresh listings.

        What stands under any other name is nobody's: no peer will ever return it, so it does not count as held.
        """
        found: list[Ticket] = []
        owners = set(self._fs.names(self._layout.live))
        owners.update(self._fs.names(self._layout.dead))  # after live/: a burial moves a name from there to here
        for worker in sorted(filter(is_worker, owners)):
            try:
                found += tickets_among(self._fs.names(self._layout.work_of(worker)))
            except FileNotFoundError:
                continue
        return found

    def _tickets_for(self, number: int, lo: int, hi: int, nonce: str) -> list[Ticket]:
        segment = self._log.segment(number)
        tickets = []
        for first, last, _, _, shard in segment.tickets:
            start, stop = max(first, lo), min(last, hi)
            if start < stop:
                size = sum(each.size_bytes for each in segment.inputs[start:stop])
                ticket = map_ticket(shard, weight_class(size), number, start, stop, size)
                tickets.append(ticket.again(nonce))
        return tickets
