"""Tickets: every planned input is in one, or done; none stands for what was never planned.

One that moves while the directories are listed is missed, or seen under two names; the second look tells. With marker
claims a ticket stays in ready/ and its lock is for ever: if nobody announces that it holds it, it can never be claimed
and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from claimwork.errors import RecordError
from claimwork.names import Kind, Ticket, is_worker, map_ticket, parse_ticket, plan_ticket, reduce_ticket
from claimwork.policy import part_count, weight_class
from claimwork.records import Job, Segment
from claimwork.repair import Repairer

from .disk import Disk, Finding, Mend, Suspicion, gaps
from .plan import Plan

_FIRST_PLAN = "0" * 16


@dataclass
class _Standing:
    """Tickets by name: those in ready/, and who holds which."""

    ready: dict[str, Ticket] = field(default_factory=dict)
    held: dict[str, Ticket] = field(default_factory=dict)
    holders: dict[str, set[str]] = field(default_factory=dict)
    locks: set[str] = field(default_factory=set)


class Tickets:
    """Looks at ready/ and work/, and locks/ where claims are markers."""

    def __init__(self, disk: Disk, job: Job, plan: Plan) -> None:
        self._disk = disk
        self._has_markers = job.claims == "marker"
        self._split_bytes = job.split_bytes
        self._plan = plan

    def look(self) -> list[Suspicion]:
        """Tickets that are lost, stand for nothing, or stand twice for one input."""
        standing = self._standing()
        claimable = self._claimable(standing)
        found = [*self._unknown(standing), *self._lost_control(claimable)]
        by_segment = _by_segment(claimable)
        last = self._plan.last_close()
        for number, count in sorted(self._plan.segments.items()):
            if last is not None and number < last:
                found += self._lost(number, count, by_segment.get(number, []))
        for tickets in by_segment.values():
            found += self._twice(standing, tickets)
        return found

    def offer_open(self, repairer: Repairer) -> Iterator[tuple[str, str]]:
        """Offer what no ticket and no done record covers in the segments that were opened; set their summaries aside.

        Yields what could not be done: a path and why.
        """
        reopened = False
        for number in sorted(repairer.opened):
            try:
                segment = self._plan.entry(number)
                if isinstance(segment, Segment):
                    reopened = self._offer_gaps(repairer, number, segment) or reopened
            except (OSError, RecordError) as error:
                yield self._disk.layout.segment(number), f"its inputs could not be offered again: {error}"
        if reopened:
            first = min(repairer.opened)
            for entry in [each for each in self._plan.closes if each > first]:
                repairer.set_aside(self._disk.layout.summary(entry))
            last = self._plan.last_close()
            standing = self._claimable(self._standing())
            if last is not None and not any(t.kind is Kind.REDUCE and t.segment == last for t in standing):
                repairer.offer_again(reduce_ticket(last))

    def _offer_gaps(self, repairer: Repairer, number: int, segment: Segment) -> bool:
        count = len(segment.inputs)
        standing = _by_segment(self._claimable(self._standing())).get(number, [])
        done = self._disk.done_ranges(number)
        rows = sorted(segment.tickets) or [(0, count, 0, 0, 0)]
        for lo, hi in gaps(count, done + [(ticket.lo, ticket.hi) for ticket in standing]):
            for first, last, _, _, shard in rows:
                start, stop = max(lo, first), min(hi, last)
                if start < stop:
                    size = sum(each.size_bytes for each in segment.inputs[start:stop])
                    repairer.offer_again(map_ticket(shard, weight_class(size), number, start, stop, size))
        return bool(gaps(count, done))

    def _standing(self) -> _Standing:
        standing = _Standing()
        self._list_ready(standing)
        layout = self._disk.layout
        for worker in filter(is_worker, self._disk.names(layout.work)):
            directory = layout.work_of(worker)
            for ticket in self._parsed(directory):
                standing.held[ticket.name] = ticket
                standing.holders.setdefault(ticket.name, set()).add(worker)
        self._list_ready(standing)  # what was handed back meanwhile
        return standing

    def _list_ready(self, standing: _Standing) -> None:
        layout = self._disk.layout
        for shard in self._disk.names(layout.ready):
            directory = f"{layout.ready}/{shard}"
            for ticket in self._parsed(directory):
                if ticket.shard_name == shard:
                    standing.ready[ticket.name] = ticket
                else:
                    self._disk.note(
                        f"{directory}/{ticket.name}", "is a ticket in a wrong place: it cannot be claimed there"
                    )
            if self._has_markers:
                standing.locks.update(self._disk.names(f"{layout.locks}/{shard}"))

    def _parsed(self, directory: str) -> Iterator[Ticket]:
        for name in self._disk.names(directory):
            try:
                ticket = parse_ticket(name)
            except RecordError:
                self._disk.note(f"{directory}/{name}", "is no ticket; it is left alone")
                continue
            if ticket.name == name:
                yield ticket

    def _claimable(self, standing: _Standing) -> list[Ticket]:
        """Tickets that somebody holds or may claim."""
        if not self._has_markers:
            return list({**standing.ready, **standing.held}.values())
        locked = {name.removesuffix(".lock") for name in standing.locks if name.endswith(".lock")}
        return [each for name, each in standing.ready.items() if name not in locked or name in standing.holders]

    def _unknown(self, standing: _Standing) -> Iterator[Suspicion]:
        for name, ticket in {**standing.held, **standing.ready}.items():
            if not self._stands_for_nothing(ticket):
                continue
            what = "is a ticket for inputs that were never planned"
            if ticket.segment >= self._plan.length:
                what += f"; if {self._disk.layout.segment(ticket.segment)!r} was lost, restore it first"
            if name in standing.ready:
                finding = Finding("ticket-unknown", self._disk.layout.ready_ticket(ticket), what, "it is removed")
                yield Suspicion(finding, _remover(ticket))
            else:
                holder = min(standing.holders[name])
                what += "; a worker holds it: repair when that has left"
                yield Suspicion(Finding("ticket-unknown", self._disk.layout.held_ticket(holder, ticket), what, None))

    def _stands_for_nothing(self, ticket: Ticket) -> bool:
        if ticket.kind is Kind.PLAN or ticket.segment in self._plan.broken:
            return False
        if ticket.kind is Kind.REDUCE:
            return ticket.segment not in self._plan.closes
        count = self._plan.segments.get(ticket.segment, -1)
        if ticket.kind is Kind.PART and count == 1:
            segment = self._plan.entry(ticket.segment)
            assert isinstance(segment, Segment)
            count = part_count(segment.inputs[0].size_bytes, self._split_bytes)
        return not ticket.lo < ticket.hi <= count

    def _lost_control(self, tickets: list[Ticket]) -> Iterator[Suspicion]:
        layout = self._disk.layout
        planning = any(ticket.kind is Kind.PLAN for ticket in tickets)
        last = self._plan.last_close()
        if planning:
            return
        if not self._plan.has_ended():
            what = "planning was begun and not ended, and no ticket asks for it"
            finding = Finding("lost-ticket", f"{layout.ready}/plan", what, "the plan ticket is offered again")
            yield Suspicion(finding, lambda repairer: repairer.offer_again(plan_ticket(_FIRST_PLAN)))
        elif last is not None and not any(t.kind is Kind.REDUCE and t.segment == last for t in tickets):
            if layout.summary(last).rpartition("/")[2] in self._disk.names(layout.summaries):
                return
            what = f"the generation that entry {last} closes has no summary, and no ticket asks for it"
            finding = Finding("lost-ticket", f"{layout.ready}/reduce", what, "the reduce ticket is offered again")
            ticket = reduce_ticket(last)
            yield Suspicion(finding, lambda repairer: repairer.offer_again(ticket))

    def _lost(self, number: int, count: int, tickets: list[Ticket]) -> Iterator[Suspicion]:
        covered = [(ticket.lo, ticket.hi) for ticket in tickets] + self._disk.done_ranges(number)
        for lo, hi in gaps(count, covered):
            what = f"inputs {lo} to {hi - 1} of segment {number} are neither done nor in a ticket"
            path = f"{self._disk.layout.done_of(number)}/{lo}-{hi}"
            finding = Finding(
                "lost-ticket", path, what, "a ticket for them is offered again; results that exist are adopted"
            )
            yield Suspicion(finding, _reopener(number))

    def _twice(self, standing: _Standing, tickets: list[Ticket]) -> Iterator[Suspicion]:
        before: Ticket | None = None
        for ticket in sorted(tickets, key=lambda each: (each.lo, each.hi, each.name)):
            if before is not None and ticket.lo < before.hi:
                yield from self._overlap(standing, before, ticket)
            if before is None or ticket.hi > before.hi:
                before = ticket

    def _overlap(self, standing: _Standing, one: Ticket, other: Ticket) -> Iterator[Suspicion]:
        holders = [standing.holders.get(each.name, set()) for each in (one, other)]
        superseded = any(f"{each.name}.next" in standing.locks for each in (one, other))
        if superseded or holders[0] & holders[1]:
            return  # its holder is at splitting it: the parts come before the whole goes
        ready = next(
            (each for each in (other, one) if each.name in standing.ready and each.name not in standing.held), None
        )
        path = self._disk.layout.ready_ticket(ready or other)
        if one.attempt > 1 or other.attempt > 1:
            self._disk.note(path, "shares inputs with another ticket: they are run twice and settled once")
            return
        what = f"shares inputs with {one.name if ready is other else other.name}, both at the first attempt"
        if ready is None:
            what += "; both are being run, and each input gets one result all the same: look again later"
            yield Suspicion(Finding("ticket-twice", path, what, None))
        else:
            finding = Finding(
                "ticket-twice", path, what, "it becomes a second attempt, whose outcomes are settled once"
            )
            yield Suspicion(finding, _raiser(ready))


def _by_segment(tickets: list[Ticket]) -> dict[int, list[Ticket]]:
    found: dict[int, list[Ticket]] = {}
    for ticket in tickets:
        if ticket.kind is Kind.MAP:
            found.setdefault(ticket.segment, []).append(ticket)
    return found


def _remover(ticket: Ticket) -> Mend:
    return lambda repairer: repairer.remove_ticket(ticket)


def _raiser(ticket: Ticket) -> Mend:
    return lambda repairer: repairer.raise_attempt(ticket)


def _reopener(number: int) -> Mend:
    return lambda repairer: repairer.reopen(number)
