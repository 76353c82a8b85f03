"""A snapshot: a job at one moment, immutable; what every screen, page and document shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .errors import Exit
from .forecast import Eta, Rate
from .trouble import Trouble

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Current:
    """What a slot is at: ``input`` where its name is known; ``medians`` is how long, against the middle input."""

    what: str
    input: str | None
    for_s: float
    medians: float | None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker as its last record tells it.

    ``state``: idle, busy, draining, suspect (its beat stands still) or lost (its work was taken back). ``beat_age_s`` is by my
    own clock where I have seen the beat change (``beat_age_observed``), else the difference of two wall clocks.
    """

    id: str
    host: str
    slot: str
    node: str
    service: str
    state: str
    why: str
    slots: int
    beat_age_s: float
    beat_age_observed: bool
    done: int
    failed: int
    done_bytes: int
    share: float
    rate: Rate
    current: tuple[Current, ...]

    @property
    def where(self) -> str:
        """Its place, for people."""
        return place(self.node or self.host, self.service, self.slot)

    @property
    def is_live(self) -> bool:
        """Whether it works, or may for all one knows."""
        return self.state not in ("suspect", "lost")


@dataclass(frozen=True, slots=True)
class Tail:
    """The last inputs: how many run for much longer than most did, and the longest of them in medians."""

    inputs: int
    medians: float


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment. Inputs: ``total = done + quarantined + running + backing_off + pending``.

    ``exact`` is False when some counts were presumed from tickets, or taken from a part of the reports: later looks catch up.
    """

    out: str
    job_id: str
    task: str
    verdict: str
    words: str
    exit_code: int
    generation: int
    total: int
    done: int
    quarantined: int
    running: int
    backing_off: int
    pending: int
    total_bytes: int
    done_bytes: int
    reclaimed: int
    fenced: int
    lost: int
    started_at: float
    at: float
    exact: bool
    rate_1m: Rate
    rate_10m: Rate
    eta: Eta | None
    median_s: float | None
    tail: Tail | None
    live: int
    workers: tuple[WorkerView, ...] = ()
    trouble: tuple[Trouble, ...] = ()
    retry: str = ""
    summary: Any = None
    has_summary: bool = False
    failed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The document of ``status --json``."""
        return {"schema": SCHEMA, **asdict(self), "trouble": [{**asdict(t), "sample": t.sample} for t in self.trouble]}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict follows from."""

    planned: bool
    total: int
    complete: bool
    covered: bool
    planning: bool
    left: int
    quarantined: int
    live: tuple[str, ...]
    silent: int
    blocked: bool
    over: bool
    alone_s: float | None


def verdict(facts: Facts) -> tuple[str, str, Exit]:
    """The verdict, in a word and in words, with its exit code."""
    if facts.complete:
        if facts.quarantined:
            return "DONE", f"all inputs are settled, {facts.quarantined} of them quarantined", Exit.QUARANTINED
        return "DONE", "every input has its result" if facts.total else "there were no inputs", Exit.COMPLETE
    if facts.blocked:
        return "BLOCKED", "the reducer failed; mend it, then: claimwork reduce", Exit.WORK_REMAINS
    if facts.over:
        return "BLOCKED", f"{facts.quarantined} quarantined, more than the job allows", Exit.QUARANTINED
    if not facts.live:
        what = f"{facts.left} pending" if facts.planned and facts.left else "work remains"
        since = f" for {duration(facts.alone_s)}" if facts.alone_s is not None and facts.alone_s >= 60 else ""
        silent = f"; {facts.silent} stand still" if facts.silent else ""
        return "STALLED", f"{what} and no live worker{since}{silent}", Exit.WORK_REMAINS
    if not facts.planned:
        return "PLANNING", "listing the inputs", Exit.WORK_REMAINS
    if facts.covered and not facts.planning:
        return "REDUCING", "every input is settled; the summary is being made", Exit.WORK_REMAINS
    if all(state == "draining" for state in facts.live):
        return "DRAINING", f"{facts.left} left, and every worker is stopping", Exit.WORK_REMAINS
    return "RUNNING", f"{facts.left} left", Exit.WORK_REMAINS


def place(machine: str, service: str, slot: str) -> str:
    """Where a worker is, in the words of whoever looks for it there: a task of Swarm has its name."""
    if not slot:
        return machine
    return f"{machine} {service}.{slot}" if service else f"{machine} slot {slot}"


def counted(count: int, one: str, more: str = "") -> str:
    """A number and its noun: ``1 input``, ``2 inputs``; *more* where an s behind *one* does not make the plural."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def duration(seconds: float) -> str:
    """Seconds for people, in at most two units."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
