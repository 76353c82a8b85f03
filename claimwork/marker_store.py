"""Claims by marker, for mounts where rename is not one atomic step.

A ticket stays in ready/ until it is done or superseded. Two names beside it, created without replace and never removed while
the ticket stands, decide everything:

- ``locks/<shard>/T.lock`` holds the id of the worker that claimed T. One ticket name is claimed once, ever.
- ``locks/<shard>/T.next`` names the tickets that follow T. Owner (release, split) and peers (take back) race for this one
  link; whoever wins decides, and everybody can complete it: offer those tickets, then remove T from ready/.

A claim is announced in ``work/<me>/T`` before the lock is taken, so that peers know where to look when I die. Every file is
staged first: a fenced worker creates none of them.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from . import records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import Ticket, is_worker, parse_ticket, tickets_among
from .policy import after_loss
from .results import Stage, publish
from .ticket_store import _names, _unlink, remove_directory, tickets_in


class MarkerStore:
    """`claims.ClaimStore` over link(2)."""

    def __init__(self, fs: Fs, layout: Layout, me: str, stage: Stage) -> None:
        self._fs = fs
        self._layout = layout
        self._me = me
        self._stage = stage

    def offer(self, ticket: Ticket) -> None:
        self._link(b"", self._layout.ready_ticket(ticket))

    def claim(self, ticket: Ticket) -> bool:
        self._link(b"", self._layout.held_ticket(self._me, ticket))
        if self._link(self._me.encode(), self._layout.lock(ticket)) or self._owner(ticket) == self._me:
            return True
        _unlink(self._fs, self._layout.held_ticket(self._me, ticket))
        return False

    def waiting(self, shard: str) -> list[Ticket]:
        found = tickets_in(self._fs, self._layout, shard)
        if not found:
            return found
        locked = set(_names(self._fs, f"{self._layout.locks}/{shard}"))
        return [ticket for ticket in found if f"{ticket.name}.lock" not in locked]

    def held(self) -> list[Ticket]:
        mine = []
        for ticket in tickets_among(_names(self._fs, self._layout.work_of(self._me))):
            owner = self._owner(ticket)
            if owner == self._me:
                following = self._next(ticket)
                if following is None:
                    mine.append(ticket)
                else:
                    self._complete(self._me, ticket, following)
            elif owner:  # announced and not got: everybody would take it for held by me
                _unlink(self._fs, self._layout.held_ticket(self._me, ticket))
        return mine

    def split(self, ticket: Ticket, parts: Sequence[Ticket]) -> None:
        for part in parts:
            self._link(b"", self._layout.held_ticket(self._me, part))
            self._link(self._me.encode(), self._layout.lock(part))  # before anybody can see it
            self.offer(part)  # before *ticket* goes: a held part that is not in ready counts as done
        self._supersede(self._me, ticket, parts)

    def release(self, ticket: Ticket, successor: Ticket) -> None:
        self._supersede(self._me, ticket, [successor])

    def drop(self, ticket: Ticket) -> None:
        _unlink(self._fs, self._layout.ready_ticket(ticket))
        _unlink(self._fs, self._layout.held_ticket(self._me, ticket))

    def take_back(self, dead: str) -> int:
        taken = 0
        for ticket in tickets_among(_names(self._fs, self._layout.work_of(dead))):
            owner = self._owner(ticket)
            if owner in (dead, ""):
                if ticket.name in _names(self._fs, self._layout.ready_ticket(ticket).rpartition("/")[0]):
                    self._supersede(dead, ticket, after_loss(ticket, "taken back"))
                    taken += 1
                    continue
                following = self._next(ticket)
                if following is not None:  # superseded, not completed
                    self._complete(dead, ticket, following)
                    continue
            _unlink(self._fs, self._layout.held_ticket(dead, ticket))
        return taken

    def fence(self, dead: str) -> bool:
        return remove_directory(self._fs, self._layout.work_of(dead))

    def _supersede(self, owner: str, ticket: Ticket, successors: Sequence[Ticket]) -> None:
        names = [each.name for each in successors]
        # flushed, for it decides: torn by a power loss, nobody would know what follows
        if not self._link(records.dumps(names), self._next_path(ticket), flushed=True):
            decided = self._next(ticket)
            names = [each.name for each in decided] if decided is not None else names
        self._complete(owner, ticket, [parse_ticket(name) for name in names])

    def _complete(self, owner: str, ticket: Ticket, successors: Sequence[Ticket]) -> None:
        for each in successors:
            if self._owner(each) is None:  # who completes late must not bring back what was claimed since
                self.offer(each)
        _unlink(self._fs, self._layout.ready_ticket(ticket))
        _unlink(self._fs, self._layout.held_ticket(owner, ticket))

    def _owner(self, ticket: Ticket) -> str | None:
        """Who locked a ticket; None for nobody, "" for a lock whose content a power loss took."""
        try:
            owner = self._read(self._layout.lock(ticket)).decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except RecordError:
            return ""
        return owner if is_worker(owner) else ""

    def _next(self, ticket: Ticket) -> list[Ticket] | None:
        path = self._next_path(ticket)
        try:
            names = records.loads(self._read(path), path)
        except FileNotFoundError:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RecordError(f"{path!r} is damaged: not a list of tickets")
        return [parse_ticket(name) for name in names]

    def _next_path(self, ticket: Ticket) -> str:
        return self._layout.lock(ticket).removesuffix(".lock") + ".next"

    def _read(self, path: str) -> bytes:
        """A marker, looked up afresh: a name asked for too early stays absent for the cache."""
        try:
            return self._fs.read(path, records.SMALL_LIMIT_BYTES)
        except FileNotFoundError:
            if path.rpartition("/")[2] in _names(self._fs, path.rpartition("/")[0]):
                return self._fs.read(path, records.SMALL_LIMIT_BYTES)
            raise

    def _link(self, content: bytes, target: str, *, flushed: bool = False) -> bool:
        """Create *target* with *content*, whole and without replace; False when it was there."""
        staged = self._stage.put(content)
        try:
            if flushed:
                self._stage.flush(staged)
            return publish(self._fs, staged, target, self._layout.out)
        finally:
            try:
                self._stage.discard(staged)
            except OSError as error:
                if error.errno not in (errno.ESTALE, errno.EIO):
                    raise
