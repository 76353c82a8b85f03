"""The story of one id of a worker: words and facts for each of its news, from joining to leaving.

The worker, its aftermath and its reaper say what happened; what a line of the log reads like stands here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from .errors import ClaimworkError
from .finalizer import ReduceReport
from .names import Kind, Ticket
from .news import News, Tell, silent
from .planner import PlanReport
from .records import BeatRecord, Job
from .snapshot import counted, duration, place


class Story:
    """Tells what happens to *worker*. One that is made without a `Tell` tells nobody.

    A worker that *rescans* lists IN each minute, and says nothing when there is nothing new.
    """

    def __init__(self, tell: Tell = silent, worker: str = "", *, rescans: bool = False) -> None:
        self._to = tell
        self._worker = worker
        self._rescans = rescans

    def _tell(self, news: News, words: str, **facts: Any) -> None:
        self._to(news, words, worker=self._worker, **facts)

    # -- joining and leaving ------------------------------------------------------------------------------------------

    def joined(self, role: str, me: BeatRecord, slots: int, job: Job, out: str) -> None:
        """The first beat is out. *role*: worker, planner or finalizer."""
        words = f"joined as {role} {self._worker[:8]} on {_where(me)}: {job.describe()} in {out}"
        self._tell(News.JOINED, words, role=role, **_whereabouts(me), slots=slots, task=job.describe(), job=job.id)

    def fenced(self, error: ClaimworkError) -> None:
        """Peers gave this id up."""
        words = f"worker {self._worker[:8]} was taken for dead and starts afresh: {error}"
        self._tell(News.FENCED, words, error=str(error))

    def draining(self, why: str, in_hand: int, grace_s: float) -> None:
        """Nothing more is claimed. *in_hand*: how many slots have something to end."""
        rest = (
            f"what {counted(in_hand, 'slot is', 'slots are')} at may end within {grace_s:g} s"
            if in_hand
            else "nothing is in hand"
        )
        self._tell(News.DRAINING, f"draining, {why}: {rest}", why=why, slots=in_hand, seconds=grace_s)

    def handed_back(self, tickets: int, inputs: int) -> None:
        """What was not finished is ready again."""
        words = f"handed back {counted(tickets, 'ticket')} with {counted(inputs, 'input')}, uncharged"
        self._tell(News.HANDED_BACK, words, tickets=tickets, inputs=inputs)

    def left(self, done: int, failed: int, *, complete: bool) -> None:
        """The last line of a worker that ends by itself or by a signal."""
        news, words = (News.COMPLETE, "nothing is left") if complete else (News.STOPPED, "stopped")
        self._tell(news, f"{words}: {done} done here, {counted(failed, 'attempt')} failed", done=done, failed=failed)

    # -- peers --------------------------------------------------------------------------------------------------------

    def lost(self, peer: str, last: BeatRecord | None, why: str) -> None:
        """A peer is given up; *last* is what it said last."""
        where, facts = ("", {}) if last is None else (f" on {_where(last)}", _whereabouts(last))
        self._tell(News.LOST, f"worker {peer[:8]}{where} is lost: {why}", peer=peer, why=why, **facts)

    def took_back(self, peer: str, tickets: int) -> None:
        """What it held is ready again."""
        words = f"took back {counted(tickets, 'ticket')} of worker {peer[:8]}"
        self._tell(News.TOOK_BACK, words, peer=peer, tickets=tickets)

    def offered_again(self, ticket: Ticket) -> None:
        """Nothing stood for what *ticket* stands for now."""
        self._tell(News.OFFERED_AGAIN, f"offering lost ticket {ticket.name} again", **_of(ticket))

    # -- inputs -------------------------------------------------------------------------------------------------------

    def ran(self, ticket: Ticket, path: str, size_bytes: int, took_s: float) -> None:
        """An input came to a result here."""
        words = f"done {path!r} in {duration(took_s)}"
        self._tell(News.RAN, words, input=path, bytes=size_bytes, seconds=round(took_s, 3), **_of(ticket))

    def backed_off(self, ticket: Ticket, path: str, error: str, allowed: int, wait_s: float) -> None:
        """An attempt failed, and *allowed* leaves another one."""
        words = f"attempt {ticket.attempt} of {allowed} at {path!r} failed, the next one in {wait_s:g} s: {error}"
        self._tell(News.BACKED_OFF, words, input=path, error=error, seconds=wait_s, **_of(ticket))

    def quarantined(self, ticket: Ticket, path: str, error: str) -> None:
        """The last attempt failed."""
        self._tell(News.QUARANTINED, f"quarantined {path!r}: {error}", input=path, error=error, **_of(ticket))

    def part_given_up(self, part: Ticket, error: str) -> None:
        """A part of a large input took its child or its worker down."""
        words = f"part {part.lo} of a large input is left to whoever gathers its parts: {error}"
        self._tell(News.PART_GIVEN_UP, words, part=part.lo, error=error, **_of(part))

    def copying(self, copy: Ticket, path: str, for_s: float) -> None:
        """Another worker is at an input for *for_s* seconds by now."""
        words = f"running a copy of {path!r}, which lasts elsewhere for {duration(for_s)} by now"
        self._tell(News.COPYING, words, input=path, seconds=round(for_s, 1), **_of(copy))

    def copied(self, copy: Ticket, path: str) -> None:
        """The copy was first."""
        self._tell(News.COPIED, f"the copy of {path!r} brought its result", input=path, **_of(copy))

    def copy_failed(self, copy: Ticket, path: str, error: str) -> None:
        """Which is charged to nobody."""
        self._tell(
            News.COPY_FAILED, f"the copy of {path!r} failed, uncharged: {error}", input=path, error=error, **_of(copy)
        )

    def made_way(self, copy: Ticket, path: str) -> None:
        """The copy lasted as well, and something is ready."""
        self._tell(News.MADE_WAY, f"the copy of {path!r} lasts as well, and makes way", input=path, **_of(copy))

    def overtaken(self, ticket: Ticket, path: str) -> None:
        """The copy, or what it was a copy of, was first."""
        self._tell(News.OVERTAKEN, f"{path!r} is done elsewhere and ended here", input=path, **_of(ticket))

    def doubted(self, control: Ticket) -> None:
        """An input that succeeded elsewhere is run, to learn whose fault the failures are."""
        words = "inputs fail here: one that succeeded elsewhere is run once more, and its result thrown away"
        self._tell(News.DOUBTED, words, **_of(control))

    # -- plan and reduction -------------------------------------------------------------------------------------------

    def how_far(self, ticket: Ticket, found: int, took_s: float) -> None:
        """A plan has listed, or a reduction has read, *found* so far."""
        seconds = round(took_s, 1)
        if ticket.kind is Kind.PLAN:
            self._tell(News.LISTING, f"{counted(found, 'input')} listed so far", inputs=found, seconds=seconds)
        else:
            self._tell(News.REDUCING, f"{counted(found, 'result')} read so far", results=found, seconds=seconds)

    def planned(self, ticket: Ticket, report: PlanReport) -> None:
        """IN was listed."""
        if self._rescans and report.known and not report.added:
            return
        inputs = report.added + report.known
        words = f"planned {counted(report.added, 'input')} ({report.known} planned before)"
        if report.unreadable:
            words += f"; {counted(report.unreadable, 'directory', 'directories')} could not be read"
        facts = {
            "inputs": report.added,
            "bytes": report.added_bytes,
            "known": report.known,
            "changed": report.changed,
            "unreadable": report.unreadable,
            "seconds": round(report.took_s, 3),
        }
        self._tell(News.PLANNED, words, **facts, **_of(ticket))
        if not inputs:
            self._tell(News.NO_INPUTS, "IN holds no inputs: is the right directory mounted there?")
        if report.generation:
            words = f"closed generation {report.generation} of the plan: {counted(inputs, 'input')} in all"
            self._tell(News.CLOSED, words, generation=report.generation, inputs=inputs)

    def reduced(self, ticket: Ticket, report: ReduceReport) -> None:
        """The summary is out."""
        quarantined = f", {report.quarantined} quarantined" if report.quarantined else ""
        results = counted(report.results, "result")
        words = f"reduced generation {report.generation} in {duration(report.took_s)}: {results}{quarantined}"
        facts = {
            "generation": report.generation,
            "results": report.results,
            "quarantined": report.quarantined,
            "seconds": round(report.took_s, 3),
        }
        self._tell(News.REDUCED, words, **facts, **_of(ticket))

    def failed(self, ticket: Ticket, error: str, wait_s: float) -> None:
        """An attempt to plan or to reduce failed; the next one comes after *wait_s*."""
        what = ticket.kind.name.lower()
        words = f"{what} failed at attempt {ticket.attempt}: {error}"
        self._tell(News.FAILED, words, what=what, error=error, seconds=wait_s, **_of(ticket))


def _of(ticket: Ticket) -> dict[str, Any]:
    return {"ticket": ticket.name, "attempt": ticket.attempt}


def _where(record: BeatRecord) -> str:
    return place(record.node or record.host, record.service, record.slot)


def _whereabouts(record: BeatRecord) -> dict[str, Any]:
    """What a worker does not know of itself is left out."""
    found = {"host": record.host, "node": record.node, "service": record.service, "slot": record.slot}
    return {name: value for name, value in found.items() if value}
