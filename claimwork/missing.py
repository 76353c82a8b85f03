"""What is missing: inputs that neither a ticket nor a done record stands for, offered again by a worker that has nothing to do.

Such a look costs a listing for each worker and segment. On a network mount a few of the idle workers do it, drawn anew each time.
What a look misses may be on its way from one directory to another, so only what the next look misses as well is offered.
"""

from __future__ import annotations

from random import Random

from . import policy
from .claims import Claims
from .clock import Clock
from .coverage import Coverage, JobState
from .fs import Fs, is_local
from .job import FIRST_PLAN
from .names import Kind, Ticket, plan_ticket, reduce_ticket
from .records import Job
from .story import Story


class Missing:
    """What one worker found missing. ``partless``: segments of inputs to be gathered, parts of which nobody will bring."""

    def __init__(
        self, fs: Fs, job: Job, claims: Claims, coverage: Coverage, clock: Clock, rng: Random, story: Story
    ) -> None:
        self.partless: set[int] = set()
        self._job = job
        self._claims = claims
        self._coverage = coverage
        self._clock = clock
        self._rng = rng
        self._story = story
        self._local = is_local(fs.kind)
        self._found: dict[str, Ticket] = {}
        self._looked_at = clock.monotonic()
        self._passed_over = 0  # times that others were drawn to look

    def takes_turn(self, peers: int, *, sure: bool) -> bool:
        """Whether this worker is to look now. When it is time one is drawn, this one or one of *peers*.

        One that is *sure* that it has to, or found something missing, looks in any case.
        """
        now = self._clock.monotonic()
        if now - self._looked_at < (policy.MISSING_AFTER_S if self._local else policy.MISSING_NETWORK_S):
            return False
        self._looked_at = now
        self._claims.doubt()  # what I hold unawares is missed by nobody
        # of a thousand workers one may be idle and all others busy for hours: each time it is passed over it gets likelier
        chance = policy.MISSING_LOOKERS + (self._passed_over / policy.PASSED_OVER_MANY) ** 2
        is_drawn = self._rng.random() * (peers + 1) < chance
        self._passed_over = 0 if is_drawn else self._passed_over + 1
        return self._local or is_drawn or sure or bool(self._found)

    def look(self, state: JobState) -> Ticket | None:
        """Offer what was missing the last time, too. Returns a reduction that is due and failed too often for anybody to take."""
        ready = self._claims.ready()
        listed = [*ready, *self._coverage.held()]
        reduces = [t for t in listed if t.kind is Kind.REDUCE and state.close and t.segment == state.close[0]]
        all_spent = bool(reduces) and state.covered and all(self._coverage.is_spent(t, self._job) for t in reduces)
        parts = {ticket.segment for ticket in listed if ticket.kind is Kind.PART}
        self.partless = {ticket.segment for ticket in ready if ticket.gathers} - parts
        missing = self._missing(state, listed)
        before, self._found = self._found, {}
        for ticket in missing:
            key = f"{ticket.kind}{ticket.segment}.{ticket.lo}-{ticket.hi}"
            if key in before:
                self._story.offered_again(ticket)
                self._claims.store.offer(ticket)
            else:
                self._found[key] = ticket
        return reduces[0] if all_spent else None

    def _missing(self, state: JobState, listed: list[Ticket]) -> list[Ticket]:
        nonce = f"{self._rng.getrandbits(64):016x}"
        kinds = {ticket.kind for ticket in listed}
        if Kind.PLAN in kinds:
            return []  # a planner that is slow has yet to offer its tickets: one of these and one of ours would race
        if state.planning:  # whoever was planning left the log open
            return [plan_ticket(FIRST_PLAN).again(nonce)]
        if state.close is None:
            return []
        if not state.covered:
            return self._coverage.missing_tickets(self._claims, nonce, listed)
        if not state.reduced and Kind.REDUCE not in kinds:
            return [reduce_ticket(state.close[0]).again(nonce)]
        return []
