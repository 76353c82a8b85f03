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
    """Watches the next peers in the sorted listing, up to the first that lives and watches, and sweeps graves.

    So each worker is watched by the nearest before it that lives, however many between them are dead. One whose watching is disturbed
    again and again buries nobody: whoever watches it looks on, up to the next one that lives. On a network mount, where each look is
    a request to a server, nothing more is looked at: live/ is listed every other time, dead/ once in T. There the OS lock of the
    next one of my own kernel is looked at as well, as far as I know it: of few peers I read who they are.
    """

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
        self._local = is_local(fs.kind)
        self._oslock_s = policy.OSLOCK_POLL_LOCAL_S if self._local else policy.OSLOCK_POLL_NETWORK_S
        self._next_watch = clock.monotonic()
        self._next_oslock = clock.monotonic()
        self._neighbours: list[str] = []  # of my own kernel, whose OS locks I look at
        self._known: dict[str, bool] = {}  # whether a peer is of my own kernel
        self._listed: list[str] = []  # peers, as of the last listing
        self._looks = 0
        self._disturbed_at = clock.monotonic() - patience_s
        self._unswept = False  # a grave was left for me or others to sweep once more

    def reset(self) -> None:
        """I stood still: what I have seen of others proves nothing."""
        self._watch.reset()
        self._disturbed_at = self._clock.monotonic()

    @property
    def watches(self) -> bool:
        """Whether nothing has disturbed my watching for T."""
        return self._clock.monotonic() - self._disturbed_at >= self._patience_s

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
            if self._local:
                self._meet_neighbours()
            self._bury_dead_neighbours()
        return self.reclaimed - before

    def _look_around(self, *, idle: bool) -> None:
        peers = self._peers() if self._is_turn(policy.LIVE_LISTED_EVERY) else self._listed
        sweeps = self._is_turn(policy.GRAVES_LISTED_EVERY) or self._unswept
        self._looks += 1
        least = 1 if not self._local else policy.PEERS_WATCHED if idle else policy.PEERS_WATCHED_LOCAL
        order = self._next_after_me(peers)
        self._known = {worker: known for worker, known in self._known.items() if worker in order}
        watched, self._neighbours, found = [], [], False
        for worker in order:
            watched.append(worker)
            if self._is_neighbour(worker):
                self._neighbours.append(worker)
            if self._watch.is_suspect(worker):
                self._bury(worker, f"its beat has stood still for {self._patience_s:g} s")
            if self._watch.shows_life(worker):
                record = self._watch.last_record(worker)
                is_enough = found or record is None or record.watches
                if is_enough and len(watched) >= least:
                    break
                found = True
        if not self._local:
            self._neighbours = self._next_of_my_kernel(order)
        self._watch.forget_all_but([*watched, *self._neighbours])
        self._bury_dead_neighbours()
        if sweeps:
            self._sweep_all()

    def _is_turn(self, every: int) -> bool:
        return self._local or self._looks % every == 0

    def _is_neighbour(self, worker: str) -> bool:
        """Look at a peer's beat; whether it is of my own kernel."""
        record = self._watch.look(worker)
        if record is None:
            return False
        self._known[worker] = bool(record.boot) and record.boot == self._me.boot
        return self._known[worker]

    def _next_of_my_kernel(self, order: list[str]) -> list[str]:
        few = self.peers <= policy.PEERS_WATCHED
        for worker in order:
            if self._known[worker] if worker in self._known else few and self._is_neighbour(worker):
                return [worker]
        return []

    def _meet_neighbours(self) -> None:
        """Peers that came since the last look are known by their OS lock at once."""
        for worker in self._peers():
            if worker in self._neighbours or len(self._neighbours) >= policy.PEERS_WATCHED:
                continue
            if self._is_neighbour(worker):
                self._neighbours.append(worker)

    def _bury_dead_neighbours(self) -> None:
        for worker in list(self._neighbours):
            if self._watch.is_dead_here(worker):
                self._neighbours.remove(worker)
                if self._fs.inode(self._layout.live_of(worker)) is not None:
                    self._bury(worker, "its process is gone")

    def _peers(self) -> list[str]:
        self._listed = [worker for worker in live_workers(self._fs, self._layout) if worker != self._me.worker]
        self.peers = len(self._listed)
        return self._listed

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
        self._sweep_all()  # of others too: the dead may have been a reaper that was about to

    def _sweep_all(self) -> None:
        swept = [self._sweep(worker) for worker in graves(self._fs, self._layout)]
        self._unswept = not all(swept)

    def _sweep(self, worker: str) -> bool:
        """Steps 2 to 5 of the module's docstring; stops, to be called again, where a step does not succeed."""
        stage = self._layout.stage_of(worker)
        empty_directory(self._fs, stage)
        if not remove_directory(self._fs, stage):
            return False
        taken = self._store.take_back(worker)
        self.reclaimed += taken
        if taken:
            self._story.took_back(worker, taken)
        if not self._store.fence(worker):
            return False
        try:
            self._fs.rename(self._layout.dead_of(worker), self._layout.left_of(worker))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        return True
