"""Backups: when nothing is ready, an idle worker may run a copy of an input that lasts. The first to publish wins.

A copy is no claim: its ticket stands in no directory, and the input stays with whoever holds it. So a copy that fails, is lost
or comes late costs time and nothing else. It runs like a second attempt, whose outcome is settled, and charges nobody. The right
to run one is **link backups/<segment>.<index>**: of many workers one gets it, and it is never given twice. A copy that lasts as
well makes way as soon as anything is ready: then it is the input that takes long, and not whoever holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from random import Random

from . import policy
from .clock import Clock
from .effort import Effort
from .errors import RecordError
from .executor import Crashed, Event, Finished, Running
from .fs import Fs, is_local
from .heartbeat import live_workers, read_beat
from .layout import Layout
from .names import Kind, Ticket, map_ticket, parse_backup, parse_place
from .plan_log import PlanLog
from .records import BeatRecord, Input, Job
from .results import Places, Stage, is_done, publish
from .story import Story

_SAMPLE = 64  # beats that one look reads at most, of peers drawn at random
_RIGHTS_TRIED = 8


@dataclass
class Backups:
    """One id of a worker, looking for what lasts: at others' inputs when it is idle, at its own when others copy them."""

    fs: Fs
    layout: Layout
    job: Job
    log: PlanLog
    stage: Stage
    clock: Clock
    rng: Random
    me: str
    story: Story
    _copy: Ticket | None = None
    _path: str = ""  # of the input that the copy is of
    _expected_s: float = 0.0  # what its size says that it takes
    _closed: set[tuple[int, int]] = field(default_factory=set)  # rights to inputs that are done
    _look_at: float = field(init=False)
    _check_at: float = field(init=False)
    _rights_at: float = 0.0  # when to look again whether an input of mine is copied

    def __post_init__(self) -> None:
        self._local = is_local(self.fs.kind)
        self._lasting_s = self.job.patience_s / policy.BEATS_IN_PATIENCE  # beats are so old
        self._look_s = self._lasting_s if self._local else max(self._lasting_s, policy.MISSING_NETWORK_S)
        self._look_at = self.clock.monotonic() + self._look_s
        self._check_at = self._look_at
        self._check_s = policy.BACKUP_CHECK_LOCAL_S if self._local else policy.BACKUP_CHECK_NETWORK_S

    # -- a copy of what others hold -----------------------------------------------------------------------------------

    def next(self, peers: int, effort: Effort) -> Ticket | None:
        """A ticket for a copy of what will probably end last, which this worker alone may run; None when there is none.

        *peers*: how many live; *effort*: what inputs cost this worker. On network mounts each beat is read by about one worker
        in half a minute.
        """
        now = self.clock.monotonic()
        if not self.job.backups or self._copy is not None or now < self._look_at:
            return None
        self._look_at = now + self._look_s
        if not self._local and self.rng.random() * min(peers + 1, _SAMPLE) > 1:
            return None
        beats = self._beats()
        fit = sum((each.effort for each in beats), effort).fit()
        if fit is None:
            return None  # nothing tells how long an input should take
        rights = self._rights()
        for for_s, number, index in self._lasting(beats)[:_RIGHTS_TRIED]:
            each = self._input(number, index)
            if each is None or (number, index) in rights or self._has_outcome(number, index, each):
                continue
            expected_s = fit.cost_s(1, each.size_bytes)
            if not policy.is_late(for_s, expected_s):
                continue
            if self._count_open(rights) >= policy.backups_allowed(peers + 1):
                return None
            if self._take(number, index):
                ticket = map_ticket(0, 0, number, index, index + 1, each.size_bytes)
                self._copy, self._path = ticket.again(f"{self.rng.getrandbits(64):016x}"), each.path
                self._expected_s = expected_s
                self.story.copying(self._copy, each.path, for_s)
                return self._copy
        return None

    def is_copy(self, ticket: Ticket) -> bool:
        """Whether *ticket* is the one that `next` gave."""
        return self._copy is not None and ticket.name == self._copy.name

    def is_late(self, at: Running) -> bool:
        """Whether a slot is at the copy and the copy lasts, too: so long that one of it would be due."""
        if at.index is None or not self.is_copy(at.ticket):
            return False
        for_s = self.clock.monotonic() - at.index_since
        return for_s >= self._lasting_s and policy.is_late(for_s, self._expected_s)

    def make_way(self) -> None:
        """The copy was ended for what is ready. Its right stays: another one would last as well."""
        self.story.made_way(self._forget(), self._path)

    def ended(self, event: Event) -> tuple[int, int, Effort]:
        """Inputs and bytes that the copy brought, and their effort. A failure is told and charged to nobody."""
        copy = self._forget()
        match event:
            case Finished() if event.mapped is not None and event.mapped.done > event.mapped.adopted:
                self.story.copied(copy, self._path)  # the right stays, to tell whoever holds the input
                return event.mapped.done, event.mapped.done_bytes, event.mapped.effort
            case Finished() if event.mapped is not None and event.mapped.failures:
                self.story.copy_failed(copy, self._path, event.mapped.failures[0][0].error)
            case Crashed():
                self.story.copy_failed(copy, self._path, event.error)
        return 0, 0, Effort()

    def _beats(self) -> list[BeatRecord]:
        peers = [worker for worker in live_workers(self.fs, self.layout) if worker != self.me]
        drawn = self.rng.sample(peers, min(len(peers), _SAMPLE))
        beats = (read_beat(self.fs, self.layout.live_of(worker)) for worker in drawn)
        return [each for each in beats if each is not None]

    def _lasting(self, beats: list[BeatRecord]) -> list[tuple[float, int, int]]:
        """Inputs that some worker is at for a beat or longer, the longest first: as they are late, so they will be."""
        found = []
        for record in beats:
            for what, for_s in record.current:
                place = parse_place(what)
                if place is not None and for_s >= self._lasting_s:
                    found.append((for_s, *place))
        return sorted(found, reverse=True)

    def _input(self, number: int, index: int) -> Input | None:
        """An input that a copy may be made of: those in parts have more than one hand at work."""
        try:
            inputs = self.log.segment(number).inputs
        except (OSError, RecordError):
            return None
        each = inputs[index] if index < len(inputs) else None
        return None if each is None or policy.is_split(each.size_bytes, self.job.split_bytes) else each

    def _rights(self) -> set[tuple[int, int]]:
        try:
            names = self.fs.names(self.layout.backups)
        except FileNotFoundError:  # an older release made this job
            return set()
        return {right for name in names if (right := parse_backup(name)) is not None}

    def _take(self, number: int, index: int) -> bool:
        try:
            staged = self.stage.put(b"")
            try:
                return publish(self.fs, staged, self.layout.backup(number, index), self.layout.out)
            finally:
                self.stage.discard(staged)
        except OSError:  # a full disk, say: nothing hangs on a copy
            return False

    def _forget(self) -> Ticket:
        copy, self._copy = self._copy, None
        assert copy is not None
        return copy

    def _count_open(self, rights: set[tuple[int, int]]) -> int:
        """How many copies run, or did without success."""
        self._closed |= {right for right in rights - self._closed if self._is_done(*right)}
        return len(rights - self._closed)

    def _give_up(self, number: int, index: int) -> None:
        """The input is done and whoever ran it knows, so nobody will ask for the right again."""
        try:
            self.fs.unlink(self.layout.backup(number, index))
        except FileNotFoundError:
            pass

    # -- what others have done meanwhile ------------------------------------------------------------------------------

    def overtaken(self, running: dict[int, Running], mine: Collection[str]) -> Iterator[tuple[int, Running]]:
        """Slots whose input came to its outcome elsewhere, so that going on is pointless: a copy's, or one that was copied.

        *mine*: names of the tickets that I hold.
        """
        now = self.clock.monotonic()
        if not self.job.backups or now < self._check_at:
            return
        self._check_at = now + self._check_s
        lasting = [at for at in running.values() if at.index is not None and now - at.index_since >= self._lasting_s]
        rights: set[tuple[int, int]] = set()
        if now >= self._rights_at and any(at.ticket.name in mine for at in lasting):
            rights = self._rights()
            self._rights_at = now + (self._check_s if self._local else self._lasting_s)
        for slot, at in running.items():
            if self.is_copy(at.ticket):  # also while its child is loading the task
                place = at.ticket.segment, at.ticket.lo
                if self._has_lost(*place):
                    self._forget()
                    self.story.overtaken(at.ticket, self._path)
                    yield slot, at
                    self._give_up(*place)
                continue
            if at.index is None or at.ticket.kind is not Kind.MAP:
                continue
            place = at.ticket.segment, at.index
            if at.ticket.name in mine and place in rights and self._is_done(*place):
                self.story.overtaken(at.ticket, self.log.segment(place[0]).inputs[at.index].path)
                yield slot, at
                self._give_up(*place)

    def _is_done(self, number: int, index: int) -> bool:
        return is_done(self.fs, self.layout, number, index)

    def _has_lost(self, number: int, index: int) -> bool:
        """Whether somebody else was first; what is settled but not done yet may be what my own copy is about to publish."""
        each = self._input(number, index)
        if self._is_done(number, index) or each is None:
            return True
        places = self._places(number, index, each)
        return not places.retried and not self._stands(places.settled) and self._stands(places.result)

    def _has_outcome(self, number: int, index: int, each: Input) -> bool:
        """Whether there is an outcome, which whoever holds the input may be about to record."""
        places = self._places(number, index, each)
        names = [places.settled] if places.retried else [places.settled, places.result]
        return any(self._stands(name) for name in names) or self._is_done(number, index)

    def _stands(self, name: str) -> bool:
        try:
            return self.fs.inode(name) is not None
        except NotADirectoryError:  # something else is where it should be: whoever holds the input will say so
            return True

    def _places(self, number: int, index: int, each: Input) -> Places:
        return Places.of(self.layout, self.job, number, index, each)
