"""Claiming: the transitions of a ticket, and how a worker picks the next one.

What is on disk for a range of inputs, and what moves it on (commit points in capitals):

    state      rename claims             marker claims                      moves to
    planned    segment only              segment only                       ready: OFFER (planner, or `recreate`)
    ready      ready/<shard>/T           ready/…/T, no lock                 held: CLAIM
    held       work/<worker>/T           ready/…/T + locks/…/T.lock         ready: RELEASE (owner) or TAKE BACK (peer)
                                                                            held: SPLIT into parts
                                                                            done: DROP, after the done record
    done       done/<segment>/<range>    the same                           –

Every move gives the ticket a name that was never there before. A worker that does not know whether a claim happened
lists what it holds; it never asks for the one name. Both stores pass tests/protocol/.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from . import policy
from .clock import Clock
from .fs import Fs
from .layout import Layout
from .names import Kind, Ticket

_FIRST_SEEN_MAX = 4096


class ClaimStore(Protocol):
    """One way to claim. Every method may raise OSError; calling it again is always safe."""

    def offer(self, ticket: Ticket) -> None:
        """Make a ticket claimable. Offering the same name twice leaves one."""

    def claim(self, ticket: Ticket) -> bool:
        """Take a ready ticket. True: it is mine. False: somebody else has it, or the reply was lost (`held` tells)."""

    def waiting(self, shard: str) -> list[Ticket]:
        """Tickets of a shard that nobody holds, by a fresh listing."""

    def held(self) -> list[Ticket]:
        """What I hold, by a fresh listing. What seems to be held by me and is not, no longer seems so."""

    def split(self, ticket: Ticket, parts: Sequence[Ticket]) -> None:
        """Replace a ticket that I hold by *parts* that I hold."""

    def release(self, ticket: Ticket, successor: Ticket) -> None:
        """Put a ticket that I hold back as *successor*: one atomic step. A no-op when peers took it back before."""

    def drop(self, ticket: Ticket) -> None:
        """Forget a ticket whose inputs are done."""

    def take_back(self, dead: str) -> int:
        """Return the tickets of a worker whose stage is fenced; how many. Any number of peers may do it at once."""

    def fence(self, dead: str) -> bool:
        """After `take_back`: make sure that *dead* can claim nothing more. False: take back once more."""


class Claims:
    """What a worker knows of the tickets that are ready: a listing used up by random picks, heaviest first.

    The first lost race throws the listing away; of a long one, which costs more than a race, the second in a row does. Delayed
    tickets wait from when *this* worker first saw them, on its own monotonic clock, so that nobody's wall clock matters.
    """

    def __init__(self, fs: Fs, layout: Layout, store: ClaimStore, clock: Clock, rng: Random) -> None:
        self.store = store
        self.mine: dict[str, Ticket] = {}
        self.lost_races = 0
        self.workers = 1  # that claim, as far as is known
        self.plans_wait = self.maps_wait = False  # as of the last look that found nothing to claim
        self._fs = fs
        self._layout = layout
        self._clock = clock
        self._rng = rng
        self._listed: list[Ticket] = []  # the heaviest last
        self._taken = 0  # of these, by me
        self._doubt = True  # a fresh start lists its own directory once
        self._late_until = 0.0
        self._spread = 1
        self._lost_in_row = 0
        self._first_seen: dict[str, float] = {}

    def next(self, wanted: Callable[[Ticket], bool], *, any_weight: bool = False) -> Ticket | None:
        """Claim a ticket for which *wanted* holds; None when there is none to be had now.

        The heaviest come first; with *any_weight* any may, so that what fails is no selection of them.
        """
        if any_weight:
            self._listed.clear()
        for _ in range(8):  # bounded: under heavy contention the worker beats in between
            ticket = self._pick(wanted, any_weight=any_weight) or (
                self._refresh(wanted, any_weight=any_weight) and self._pick(wanted, any_weight=any_weight)
            )
            found = self._claimed_unawares()
            if found is not None:
                if ticket:
                    insort(self._listed, ticket, key=_weight)
                return found
            if not ticket:
                # a claim that was answered with an error may still happen, when the server gets to it
                self._doubt = self._clock.monotonic() < self._late_until
                return None
            if self._claim(ticket):
                return ticket
        return None

    def forget_listing(self) -> None:
        """List afresh before the next claim: something came back that may be heavier than what is left of the listing."""
        self._listed.clear()

    def many_wait(self) -> bool:
        """Whether a long listing of mine still has several tickets for each worker, had others taken as many of it as I have."""
        left = len(self._listed) - self._taken * self.workers
        return left >= max(policy.PLENTY * self.workers, policy.SHARD_TICKETS)

    def doubt(self) -> None:
        """List what I hold before the next claim: a claim that was answered with an error may have happened long after."""
        self._doubt = True

    def holding(self, ticket: Ticket) -> None:
        """Remember a ticket that I hold by another way than `next`."""
        self.mine[ticket.name] = ticket

    def release(self, ticket: Ticket, successor: Ticket) -> None:
        """Hand a ticket back; see `ClaimStore.release`."""
        self.store.release(ticket, successor)
        self.mine.pop(ticket.name, None)

    def split(self, ticket: Ticket, parts: Sequence[Ticket]) -> None:
        """Hold *parts* instead of *ticket*."""
        self.store.split(ticket, parts)
        self.mine.pop(ticket.name, None)
        for part in parts:
            self.holding(part)

    def drop(self, ticket: Ticket) -> None:
        """Forget a ticket whose inputs are done."""
        self.store.drop(ticket)
        self.mine.pop(ticket.name, None)

    def ready(self) -> list[Ticket]:
        """All tickets that wait, by fresh listings of every shard: for decisions that need the whole picture."""
        return [ticket for shard in self._shards() for ticket in self.store.waiting(shard)]

    def _claim(self, ticket: Ticket) -> bool:
        try:
            won = self.store.claim(ticket)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            won = False  # it may have happened all the same: the doubt is resolved by listing
        if won:
            self.mine[ticket.name] = ticket
            self._lost_in_row = 0
            self._taken += 1
            return True
        self.lost_races += 1
        self._lost_in_row += 1
        self._doubt = True
        self._late_until = self._clock.monotonic() + policy.LATE_S
        if self._lost_in_row > 1 or len(self._listed) <= policy.SHARD_TICKETS:
            self._listed.clear()
        self._spread = min(self._spread * 2, 64)
        return False

    def _claimed_unawares(self) -> Ticket | None:
        if not self._doubt:
            return None
        for ticket in self.store.held():
            if ticket.name not in self.mine:
                self.mine[ticket.name] = ticket
                return ticket  # still in doubt: there may be more
        self._doubt = False
        return None

    def _pick(self, wanted: Callable[[Ticket], bool], *, any_weight: bool) -> Ticket | None:
        """A random one of the heaviest that may be claimed now; it leaves the listing. Of thousands few are looked at."""
        now = self._clock.monotonic()
        stop = len(self._listed)
        while stop:
            weight = self._listed[stop - 1].weight
            start = 0 if any_weight else bisect_left(self._listed, weight, 0, stop, key=_weight)
            places = list(range(start, stop))
            for left in range(len(places), 0, -1):
                drawn = self._rng.randrange(left)
                place, places[drawn] = places[drawn], places[left - 1]
                ticket = self._listed[place]
                if self._is_due(ticket, now) and ticket.name not in self.mine and wanted(ticket):
                    del self._listed[place]
                    return ticket
            stop = start
        return None

    def _is_due(self, ticket: Ticket, now: float) -> bool:
        if not ticket.delay_ms:
            return True
        return now - self._first_seen.setdefault(ticket.name, now) >= ticket.delay_ms / 1000

    def _refresh(self, wanted: Callable[[Ticket], bool], *, any_weight: bool) -> bool:
        """List shards from the heaviest on until one has something to claim; True when one has."""
        self._spread = max(1, self._spread - 1)
        self.plans_wait = self.maps_wait = False
        shards = self._shards()
        maps = [shard for shard in shards if shard not in ("plan", "reduce")]
        if len(maps) > 1 and self._spread > 1:  # crowded: spread over the first few shards
            start = self._rng.randrange(min(self._spread, len(maps)))
            maps = maps[start:] + maps[:start]
        if any_weight:
            self._rng.shuffle(maps)
        order = [s for s in shards if s == "plan"] + maps + [s for s in shards if s == "reduce"]
        now = self._clock.monotonic()
        self._forget_first_seen(now)
        for shard in order:
            listed = self.store.waiting(shard)
            self.plans_wait |= shard == "plan" and bool(listed)
            self.maps_wait |= shard in maps and bool(listed)
            if not listed:
                self._remove_empty(shard)
            due = [t for t in listed if self._is_due(t, now)]  # all are asked: a back-off begins when it is first seen
            if any(t.name not in self.mine and wanted(t) for t in due):
                self._listed, self._taken = sorted(listed, key=_weight), 0
                return True
        self._listed = []
        return False

    def _forget_first_seen(self, now: float) -> None:
        """Forget tickets that others took long ago, when there are many: no back-off is longer than half of this."""
        if len(self._first_seen) > _FIRST_SEEN_MAX:
            long_ago = now - 2 * policy.BACKOFF_MAX_S
            self._first_seen = {name: seen for name, seen in self._first_seen.items() if seen > long_ago}

    def _shards(self) -> list[str]:
        return sorted(
            name for name in self._fs.names(self._layout.ready) if name in ("plan", "reduce") or name.isdigit()
        )

    def _remove_empty(self, shard: str) -> None:
        # rmdir refuses a directory that got a ticket meanwhile; who puts one back makes the directory again
        try:
            self._fs.rmdir(f"{self._layout.ready}/{shard}")
        except OSError:
            pass


def _weight(ticket: Ticket) -> int:
    return ticket.weight


def is_control(ticket: Ticket) -> bool:
    """True for tickets that stand for no inputs: plan and reduce."""
    return ticket.kind in (Kind.PLAN, Kind.REDUCE)


def idle_wait_s(rounds: int, *, local: bool) -> float:
    """How long to wait after *rounds* looks that found nothing."""
    cap = policy.IDLE_LOCAL_S if local else policy.IDLE_NETWORK_S
    return float(min(policy.IDLE_FIRST_S * 2 ** min(rounds, 16), cap))
