"""Claims by rename: ready/<shard>/T → work/<me>/T is one atomic step, and the server picks one winner.

A ticket is created in its creator's stage directory and renamed into place, so that a creator that was fenced creates
nothing more. work/<me> is removed by whoever takes over from a dead worker: a rename that a dead process sent and the
server has yet to execute then finds no directory (docs/protocol.md, "Bury a peer").
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from .errors import Fenced
from .fs import Fs
from .layout import Layout
from .names import Ticket, tickets_among
from .policy import after_loss
from .results import Stage, remove_staged

_GONE = (errno.ENOENT, errno.ESTALE)
_TRANSIENT = (*_GONE, errno.EIO, errno.EINTR, errno.EAGAIN, errno.EEXIST)
_TRIES = 5


class RenameStore:
    """`claims.ClaimStore` over rename(2)."""

    def __init__(self, fs: Fs, layout: Layout, me: str, stage: Stage) -> None:
        self._fs = fs
        self._layout = layout
        self._me = me
        self._stage = stage

    def offer(self, ticket: Ticket) -> None:
        self._create(self._layout.ready_ticket(ticket))

    def claim(self, ticket: Ticket) -> bool:
        try:
            self._fs.rename(self._layout.ready_ticket(ticket), self._layout.held_ticket(self._me, ticket))
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise
        return True

    def waiting(self, shard: str) -> list[Ticket]:
        return tickets_in(self._fs, self._layout, shard)

    def held(self) -> list[Ticket]:
        return tickets_among(_names(self._fs, self._layout.work_of(self._me)))

    def split(self, ticket: Ticket, parts: Sequence[Ticket]) -> None:
        for part in parts:  # create before remove: dying in between leaves both, never neither
            self._create(self._layout.held_ticket(self._me, part))
        self.drop(ticket)

    def release(self, ticket: Ticket, successor: Ticket) -> None:
        self._move(self._me, ticket, successor)

    def drop(self, ticket: Ticket) -> None:
        _unlink(self._fs, self._layout.held_ticket(self._me, ticket))

    def take_back(self, dead: str) -> int:
        tickets = tickets_among(_names(self._fs, self._layout.work_of(dead)))
        for ticket in tickets:
            successors = after_loss(ticket, "taken back")
            if len(successors) == 1:
                self._move(dead, ticket, successors[0])
            else:
                for each in successors:  # a peer that is slow may offer them once more: they are not first attempts
                    self.offer(each)
                _unlink(self._fs, self._layout.held_ticket(dead, ticket))
        return len(tickets)

    def fence(self, dead: str) -> bool:
        return remove_directory(self._fs, self._layout.work_of(dead))

    def _create(self, target: str) -> None:
        parent = target.rpartition("/")[0]
        staged = self._stage.put(b"")
        last = OSError(errno.EIO, "cannot create a ticket", target)
        for _ in range(_TRIES):
            try:
                self._fs.rename(staged, target)
                return
            except OSError as error:
                last = error
            # It may have happened, and somebody may have claimed the ticket since: only my own stage can tell.
            if not self._stage.holds(staged):
                return
            if last.errno not in _TRANSIENT:
                raise last
            if parent != self._layout.work_of(self._me):
                self._fs.mkdir(parent)  # a shard that somebody removed as empty
            elif last.errno in _GONE:
                raise Fenced("the work directory is gone: peers took this worker for dead")
        raise last

    def _move(self, owner: str, ticket: Ticket, successor: Ticket) -> None:
        source, target = self._layout.held_ticket(owner, ticket), self._layout.ready_ticket(successor)
        last = OSError(errno.EIO, "cannot put a ticket back", target)
        missed = False
        for _ in range(_TRIES):
            try:
                self._fs.rename(source, target)
                return
            except OSError as error:
                last = error
                if error.errno not in _TRANSIENT:
                    raise
            if ticket.name in _names(self._fs, self._layout.work_of(owner)):
                missed = False
            elif missed:
                return  # moved: by this call, or by a peer that took it back
            else:
                missed = True  # one listing may be an old one, and who believes it forgets a ticket that it holds
            self._fs.mkdir(target.rpartition("/")[0])
        if missed:
            return
        raise last


def tickets_in(fs: Fs, layout: Layout, shard: str) -> list[Ticket]:
    """Tickets in a directory of ready/, by a fresh listing; one that belongs elsewhere could not be moved from here."""
    try:
        names = fs.names(f"{layout.ready}/{shard}")
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [ticket for ticket in tickets_among(names) if ticket.shard_name == shard]


def _names(fs: Fs, directory: str) -> list[str]:
    try:
        return fs.names(directory)
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def _unlink(fs: Fs, path: str) -> None:
    try:
        fs.unlink(path)
    except OSError as error:
        if error.errno not in _GONE:
            raise


def remove_directory(fs: Fs, path: str) -> bool:
    """rmdir; True when the directory is gone for certain: a look-up that says so may be stale, so its parent is listed."""
    try:
        fs.rmdir(path)
    except OSError as error:
        if error.errno in _GONE:
            parent, _, name = path.rpartition("/")
            return name not in fs.names(parent)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
            return False
        raise
    return True


def remove_stage(fs: Fs, layout: Layout, worker: str) -> None:
    """Remove the stage of somebody who is no worker, as far as that goes: `check --repair` sweeps what is left."""
    try:
        empty_directory(fs, layout.stage_of(worker))
        remove_directory(fs, layout.stage_of(worker))
    except OSError:
        pass


def empty_directory(fs: Fs, path: str) -> None:
    """Remove everything in a stage."""
    for name in _names(fs, path):
        try:
            remove_staged(fs, f"{path}/{name}")
        except OSError as error:
            if error.errno not in _GONE:
                raise
