"""The tree under OUT as named paths; docs/protocol.md describes what lives where."""

from __future__ import annotations

from .names import Ticket, number_name, part_name


class Layout:
    """Paths below one OUT. Nothing read from the mount is ever made part of a path inside `.claimwork` without being
    parsed by `names` first.
    """

    def __init__(self, out: str) -> None:
        self.out = out.rstrip("/") or "/"
        self.results = f"{self.out}/results"
        self.quarantine = f"{self.out}/quarantine"
        self.summary_json = f"{self.out}/summary.json"
        self.home = f"{self.out}/.claimwork"
        self.job = f"{self.home}/job.json"
        self.plan = f"{self.home}/plan"
        self.ready = f"{self.home}/ready"
        self.work = f"{self.home}/work"
        self.locks = f"{self.home}/locks"
        self.live = f"{self.home}/live"
        self.dead = f"{self.home}/dead"
        self.left = f"{self.home}/left"
        self.oslock = f"{self.home}/oslock"
        self.done = f"{self.home}/done"
        self.failures = f"{self.home}/failures"
        self.settled = f"{self.home}/settled"
        self.stage = f"{self.home}/stage"
        self.summaries = f"{self.home}/summary"
        self.showing = f"{self.home}/showing"
        self.parts = f"{self.home}/parts"

    def directories(self) -> list[str]:
        """Every directory that a job starts with, parents first."""
        return [
            self.home,
            self.results,
            self.quarantine,
            self.plan,
            self.ready,
            self.work,
            self.locks,
            self.live,
            self.dead,
            self.left,
            self.oslock,
            self.done,
            self.failures,
            self.settled,
            self.stage,
            self.summaries,
            self.showing,
        ]

    def segment(self, number: int) -> str:
        """Log entry *number*."""
        return f"{self.plan}/{number_name(number)}"

    def ready_ticket(self, ticket: Ticket) -> str:
        """Where a ticket waits."""
        return f"{self.ready}/{ticket.shard_name}/{ticket.name}"

    def held_ticket(self, worker: str, ticket: Ticket) -> str:
        """Where a ticket is while *worker* holds it."""
        return f"{self.work}/{worker}/{ticket.name}"

    def lock(self, ticket: Ticket) -> str:
        """The claim marker of a ticket in a job with marker claims."""
        return f"{self.locks}/{ticket.shard_name}/{ticket.name}.lock"

    def work_of(self, worker: str) -> str:
        """Directory of the tickets that *worker* holds."""
        return f"{self.work}/{worker}"

    def stage_of(self, worker: str) -> str:
        """Directory of *worker*'s private temporaries: whatever it creates anywhere starts here."""
        return f"{self.stage}/{worker}"

    def live_of(self, worker: str) -> str:
        """Heartbeat of *worker*."""
        return f"{self.live}/{worker}"

    def dead_of(self, worker: str) -> str:
        """Grave of *worker*: taken for dead, its tickets being taken back."""
        return f"{self.dead}/{worker}"

    def left_of(self, worker: str) -> str:
        """Last record of a worker that left or was fenced, for `status`."""
        return f"{self.left}/{worker}"

    def oslock_of(self, worker: str) -> str:
        """File under the OS lock of *worker*."""
        return f"{self.oslock}/{worker}"

    def done_of(self, segment: int) -> str:
        """Directory of the done records of one segment."""
        return f"{self.done}/{number_name(segment)}"

    def failures_of(self, segment: int) -> str:
        """Directory of the failed attempts on one segment."""
        return f"{self.failures}/{number_name(segment)}"

    def settled_of(self, segment: int) -> str:
        """Directory of the settled outcomes of inputs that were attempted more than once."""
        return f"{self.settled}/{number_name(segment)}"

    def parts_of(self, segment: int) -> str:
        """Directory of what is known of the parts of a large input; there while it is open."""
        return f"{self.parts}/{number_name(segment)}"

    def part(self, segment: int, nth: int, *, failed: bool = False) -> str:
        """The record of part *nth*."""
        return f"{self.parts_of(segment)}/{part_name(nth, failed=failed)}"

    def summary(self, entry: int) -> str:
        """Summary record of the generation that log entry *entry* closes."""
        return f"{self.summaries}/{number_name(entry)}"

    def showing_of(self, entry: int) -> str:
        """Directory of copies of that summary on their way to summary.json."""
        return f"{self.showing}/{number_name(entry)}"
