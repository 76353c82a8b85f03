"""Repair: the steps by which `check` mends a job while workers may be running.

Everything is made in a stage of one's own and linked or renamed from there, as workers do. What must stop counting is
renamed into ``.claimwork/aside``, under its old name and a random end: nothing is lost, no name comes back. Tickets
offered again start at attempt 2 with a fresh nonce, so that their outcomes are settled exclusively. Each step may be
repeated; dying between two of them leaves a finding for the next check.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from . import records
from .attempts import noted
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import Ticket, range_name, reduce_ticket
from .parts import remove_parts
from .records import Failure, Input, Job
from .results import Stage, publish
from .stores import make_store
from .ticket_store import empty_directory, remove_directory


class Repairer:
    """Somebody who is no worker, with a stage of its own until `close`."""

    def __init__(self, fs: Fs, layout: Layout, job: Job) -> None:
        self.fs = fs
        self.layout = layout
        self.job = job
        self.opened: set[int] = set()  # segments in which inputs may have lost their done record or ticket
        self._stage = Stage(fs, layout, secrets.token_hex(16), "r")
        self._aside = f"{layout.home}/aside"
        for directory in (layout.stage, self._stage.directory, self._aside):
            fs.mkdir(directory)
        self._store = make_store(job, fs, layout, self._stage.directory[-32:], self._stage)

    def close(self) -> None:
        """Remove the stage; what cannot be removed is left for the next check."""
        try:
            empty_directory(self.fs, self._stage.directory)
            remove_directory(self.fs, self._stage.directory)
        except OSError:
            pass

    def set_aside(self, path: str) -> None:
        """Take a file out of its place and keep it; one that is gone already is fine."""
        name = "-".join(path[len(self.layout.out) + 1 :].split("/")[-3:])
        name = name.encode("utf-8", "surrogateescape")[:180].decode("utf-8", "ignore")
        try:
            self.fs.rename(path, f"{self._aside}/{name}.{secrets.token_hex(8)}")
        except FileNotFoundError:
            pass

    def reopen(self, segment: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        """Let done records no longer count; what nothing covers then is offered again."""
        self.opened.add(segment)
        for lo, hi in ranges:
            self.set_aside(f"{self.layout.done_of(segment)}/{range_name(lo, hi)}")

    def offer_again(self, ticket: Ticket) -> None:
        """Offer a ticket that was lost: attempt 2, and a name that was never there."""
        self._store.offer(ticket.again(secrets.token_hex(8)))

    def raise_attempt(self, ticket: Ticket) -> None:
        """Let a ready first attempt count as a second one, which settles its outcomes exclusively."""
        successor = ticket.successor(attempt=ticket.attempt + 1)
        if self.job.claims == "marker":
            self._store.release(ticket, successor)
            return
        try:
            self.fs.rename(self.layout.ready_ticket(ticket), self.layout.ready_ticket(successor))
        except FileNotFoundError:
            pass  # claimed since

    def reduce_again(self, entry: int) -> None:
        """Let a summary no longer count, and have it made once more when its inputs are done."""
        self.set_aside(self.layout.summary(entry))
        self.offer_again(reduce_ticket(entry))

    def show(self, value: object) -> None:
        """Make summary.json show *value*."""
        staged = self._stage.put(records.dumps(value) + b"\n")
        self.fs.flush([staged])
        self.fs.rename(staged, self.layout.summary_json)

    def bury(self, worker: str) -> None:
        """Take what is left of a worker without any record for that of a dead one, and sweep it.

        The grave comes first: if this process dies, any worker carries on from there.
        """
        if worker in self.fs.names(self.layout.oslock):
            lock = self.fs.try_lock(self.layout.oslock_of(worker))
            if lock is None:
                raise RecordError("its process still holds its OS lock: wait for it, or end it")
            lock.release()
        staged = self._stage.put(b"")
        publish(self.fs, staged, self.layout.dead_of(worker), self.layout.out)
        self._stage.discard(staged)
        self.sweep(worker)

    def sweep(self, worker: str) -> None:
        """Take back what a dead worker held and fence it, as `reaper` does. RecordError when it cannot be finished."""
        stage, work = self.layout.stage_of(worker), self.layout.work_of(worker)
        for directory in (stage, work):
            own, inside = self.fs.inode(directory), None
            if own is not None:
                inside = self.fs.inode(f"{directory}/.")
            if inside not in (None, own):
                raise RecordError(f"{directory!r} is a link, and what it leads to is left alone: remove the link")
        empty_directory(self.fs, stage)
        if not remove_directory(self.fs, stage):
            raise RecordError(f"{stage!r} does not get empty: run claimwork check --repair again")
        self._store.take_back(worker)
        if not self._store.fence(worker):
            raise RecordError(f"{work!r} does not get empty: move away what is no ticket in it, then repair again")
        try:
            self.fs.rename(self.layout.dead_of(worker), self.layout.left_of(worker))
        except FileNotFoundError:
            pass

    def remove_parts(self, segment: int) -> None:
        """Remove what is left of the parts of an input that is done."""
        remove_parts(self.fs, self.layout, segment)

    def remove_ticket(self, ticket: Ticket) -> None:
        """Forget a ready ticket that stands for nothing."""
        try:
            self.fs.unlink(self.layout.ready_ticket(ticket))
        except FileNotFoundError:
            pass

    def write_report(self, segment: int, index: int, each: Input, path: str, reason: str) -> None:
        """Make a quarantine report again: from what was settled, else from the failed attempts, else from *reason*."""
        settled = f"{self.layout.settled_of(segment)}/{index}"
        fits = report_of(self.job.id, segment, index, each.path)
        try:
            if fits(self.fs.read(settled, records.SMALL_LIMIT_BYTES)):
                publish(self.fs, settled, path, self.layout.out)
                return
        except (OSError, RecordError):
            pass  # not settled, or damaged: the attempts tell as much
        failures = [note for note in noted(self.fs, self.layout, segment, index) if note.input == each.path]
        failures = failures or [Failure(each.path, segment, index, 1, "lost", reason or "the report was lost")]
        staged = self._stage.put(records.encode_quarantine(self.job.id, failures, each.path, segment, index))
        self.fs.flush([staged])
        publish(self.fs, staged, path, self.layout.out)
        self._stage.discard(staged)


def report_of(job_id: str, segment: int, index: int, name: str) -> Callable[[bytes], bool]:
    """A test for bytes: whether they are the quarantine report of this very input."""

    def fits(data: bytes) -> bool:
        failures = records.parse_quarantine(data, "a report", job_id)
        return failures is not None and all(
            (each.segment, each.index, each.input) == (segment, index, name) for each in failures
        )

    return fits
