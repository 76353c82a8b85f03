"""The reaper: judges peers by their beats, takes back what the dead held, fences them. Every worker is one.

    1. rename live/d → dead/d            the verdict, in the open: d itself sees it, and any peer can carry on from here
    2. empty and remove stage/d          from here on d can create nothing: no result, no ticket, no marker
    3. return the tickets of d           one attempt more, or in halves
    4. remove work/d                     the fence: from here on d can claim nothing, however late
    5. unlink dead/d                     nothing is left to do

Each step may be repeated and may be done by several reapers at once; dying after any of them leaves a grave that the next
reaper sweeps. If d lives after all, it finds its heartbeat gone and starts afresh under a new id.
"""

from __future__ import annotations

import errno

from . import policy
from .claims import ClaimStore
from .clock import Clock
from .fs import Fs, is_local
from .heartbeat import Watch, graves, live_workers
from .layout import Layout
from .records import BeatRecord
from .story import Story
from .ticket_store import empty_directory, remove_directory


class Reaper:
    """Watches the next peers in the sorted listing and sweeps graves."""

    def __init__(
        self,
        fs: Fs,
        layout: Layout,
        store: ClaimStore,
        clock: Clock,
        me: BeatRecord,
        patience_s: float,
        story: Story | None = None,
    ) -> None:
        self._story = story or Story()
        self._patience_s = patience_s
        self.reclaimed = 0
        self.peers = 0  # as of the last listing
        self._fs = fs
        self._layout = layout
        self._store = store
        self._clock = clock
        self._me = me
        self._watch = Watch(fs, layout, clock, patience_s)
        self._period_s = patience_s / policy.BEATS_IN_PATIENCE
        self._oslock_s = policy.OSLOCK_POLL_LOCAL_S if is_local(fs.kind) else policy.OSLOCK_POLL_NETWORK_S
        self._next_watch = clock.monotonic()
        self._next_oslock = clock.monotonic()
        self._neighbours: list[str] = []  # of my own kernel
        self._graves: set[str] = set()

    def reset(self) -> None:
        """I stood still: what I have seen of others proves nothing."""
        self._watch.reset()

    def due_in(self) -> float:
        """Seconds until there is something to look at."""
        return min(self._next_watch, self._next_oslock) - self._clock.monotonic()

    def work(self, *, idle: bool) -> int:
        """Look at peers when due and take back what the dead held; how many tickets came back.

        *idle* workers look at every peer, since the tickets that are left may be anybody's.
        """
        now = self._clock.monotonic()
        before = self.reclaimed
        if now >= self._next_watch:
            self._next_watch = now + self._period_s
            self._look_around(idle=idle)
            self._next_oslock = now + self._oslock_s
        elif now >= self._next_oslock:
            self._next_oslock = now + self._oslock_s
            if is_local(self._fs.kind):  # elsewhere each listing is a request to the server
                self._meet_neighbours()
            self._bury_dead_neighbours()
        return self.reclaimed - before

    def _look_around(self, *, idle: bool) -> None:
        peers = self._peers()
        watched = peers if idle and len(peers) <= 8 else self._next_after_me(peers)
        self._watch.forget_all_but(watched)
        neighbours = []
        for worker in watched:
            record = self._watch.look(worker)
            if record is not None and record.boot and record.boot == self._me.boot:
                neighbours.append(worker)
            if self._watch.is_suspect(worker):
                self._bury(worker, f"its beat has stood still for {self._patience_s:g} s")
        self._neighbours = neighbours
        self._bury_dead_neighbours()
        for worker in graves(self._fs, self._layout):
            self._sweep(worker)

    def _meet_neighbours(self) -> None:
        """Peers that came since the last look are known by their OS lock at once."""
        for worker in self._peers():
            if worker not in self._neighbours and len(self._neighbours) < 8:
                record = self._watch.look(worker)
                if record is not None and record.boot and record.boot == self._me.boot:
                    self._neighbours.append(worker)

    def _bury_dead_neighbours(self) -> None:
        for worker in list(self._neighbours):
            if self._watch.is_dead_here(worker):
                self._neighbours.remove(worker)
                if self._fs.inode(self._layout.live_of(worker)) is not None:
                    self._bury(worker, "its process is gone")

    def _peers(self) -> list[str]:
        peers = [worker for worker in live_workers(self._fs, self._layout) if worker != self._me.worker]
        self.peers = len(peers)
        return peers

    def _next_after_me(self, peers: list[str]) -> list[str]:
        after = [worker for worker in peers if worker > self._me.worker]
        before = [worker for worker in peers if worker < self._me.worker]
        return (after + before)[: policy.PEERS_WATCHED]

    def _bury(self, worker: str, why: str) -> None:
        try:
            self._fs.rename(self._layout.live_of(worker), self._layout.dead_of(worker))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        else:
            self._story.lost(worker, self._watch.last_record(worker), why)
        if worker in graves(self._fs, self._layout):
            self._sweep(worker)

    def _sweep(self, worker: str) -> None:
        """Steps 2 to 5 of the module's docstring; stops, to be called again, where a step does not succeed."""
        stage = self._layout.stage_of(worker)
        empty_directory(self._fs, stage)
        if not remove_directory(self._fs, stage):
            return
        taken = self._store.take_back(worker)
        self.reclaimed += taken
        if taken:
            self._story.took_back(worker, taken)
        if not self._store.fence(worker):
            return
        try:
            self._fs.rename(self._layout.dead_of(worker), self._layout.left_of(worker))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
