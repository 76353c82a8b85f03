"""Signs of life: my beat, and what I may conclude from another's.

A beat is a record rewritten in place. Peers compare its bytes and nothing else: no mtime, no time written in it. A peer is
suspect when I have read the same bytes at least five times over at least T of my own monotonic clock, while my own beats
went through and my own reads came in time. Any stall of mine, of the mount or of my clock starts the evidence anew, so
a server that stops for an hour makes nobody suspect.

Suspicion is a judgement, not a fact: everything done about it is safe when it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from . import records
from .clock import Clock
from .errors import Fenced, RecordError
from .fs import Fs, Lock
from .layout import Layout
from .names import is_worker
from .policy import BEAT_JITTER, BEAT_TRIES, BEATS_IN_PATIENCE, SELF_FENCE
from .records import BeatRecord


class Heartbeat:
    """My own beat: create, beat when due, close.

    Raises Fenced as soon as peers may have given me up: my file is gone, or I could not beat for `SELF_FENCE` of T.
    """

    def __init__(self, fs: Fs, layout: Layout, clock: Clock, patience_s: float, jitter: float) -> None:
        self._fs = fs
        self._layout = layout
        self._clock = clock
        self._patience_s = patience_s
        self.period_s = patience_s / BEATS_IN_PATIENCE * (1 + BEAT_JITTER * (2 * jitter - 1))
        self.last_at = clock.monotonic()
        self._tried_at = self.last_at
        self._lock: Lock | None = None

    def start(self, record: BeatRecord) -> None:
        """Take the OS lock and publish the first beat; from now on peers watch me.

        Raises Fenced when they have buried me by then: a request whose reply was late in coming may have created the file
        long ago, and opening it once more has put a second one under the name.
        """
        self._path = self._layout.live_of(record.worker)
        self._lock = self._fs.try_lock(self._layout.oslock_of(record.worker))
        if self._lock is None:
            record = replace(record, boot="")  # without the lock nobody may conclude from it that I am dead
        self._file = self._fs.open_beat(self._path, records.encode_beat(record))
        self._inode = self._fs.inode(self._path)
        self.last_at = self._clock.monotonic()
        # in this order: whoever is in no grave, and was, has been swept, and its stage went first
        if record.worker in graves(self._fs, self._layout) or not _exists(
            self._fs, self._layout.stage_of(record.worker)
        ):
            raise Fenced("peers took this worker for dead before it had begun")

    def due_in(self) -> float:
        """Seconds until the next beat should be written; after one that failed it is tried again a little later."""
        again = self._tried_at + self.period_s / BEAT_TRIES
        return max(self.last_at + self.period_s, again) - self._clock.monotonic()

    def check(self) -> None:
        """Raise Fenced when the last beat is so old that peers may be about to take my tickets back."""
        if self._clock.monotonic() - self.last_at > self._patience_s * SELF_FENCE:
            raise Fenced("no beat of this worker reached the mount for too long")

    def beat(self, record: BeatRecord) -> bool:
        """Write one beat; False when it failed or came late, so that what I saw of others proves nothing.

        An OSError is swallowed: the next beat tries again, and `check` bounds how long.
        """
        self.check()
        started = self._tried_at = self._clock.monotonic()
        in_time = started - self.last_at <= 2 * self.period_s
        try:
            self._file.write(records.encode_beat(replace(record, boot=record.boot if self._lock is not None else "")))
            found = self._fs.inode(self._path)
        except OSError:
            return False
        if found is None or found != self._inode:
            raise Fenced("the heartbeat file is gone: peers took this worker for dead")
        self.last_at = started
        return in_time

    def stop(self) -> None:
        """Close the file and give up the OS lock; the name stays, for the caller to move or for peers to find."""
        self._file.close()
        if self._lock is not None:
            self._lock.release()

    def leave(self, record: BeatRecord) -> None:
        """Say goodbye: the last record moves from live/ to left/, and nobody watches me any more."""
        try:
            self._file.write(records.encode_beat(record))
            self._fs.rename(self._path, self._layout.left_of(record.worker))
        except FileNotFoundError:
            self.give_up()  # moved after all, its reply lost; or peers have buried me
        except OSError:
            self.stop()  # peers find a beat that stands still, and clean up
        else:
            self.give_up()

    def give_up(self) -> None:
        """Peers need to learn nothing more of me: stop, and take the OS lock's file along, which only its holder may."""
        if self._lock is not None:
            try:
                self._fs.unlink(self._layout.oslock_of(self._path.rpartition("/")[2]))
            except OSError:
                pass
        self.stop()


def read_beat(fs: Fs, path: str) -> BeatRecord | None:
    """A worker's record in live/ or left/; None when there is none that can be read."""
    try:
        return records.parse_beat(fs.read(path, records.SMALL_LIMIT_BYTES), path)
    except (OSError, RecordError):
        return None


def _parsed(data: bytes, path: str) -> BeatRecord | None:
    try:
        return records.parse_beat(data, path)
    except RecordError:
        return None


def _exists(fs: Fs, directory: str) -> bool:
    try:
        fs.names(directory)
    except FileNotFoundError:
        return False
    return True


@dataclass
class _Evidence:
    data: bytes
    record: BeatRecord | None  # of *data*
    since: float
    last_read: float
    reads: int


class Watch:
    """What I have seen of my peers' beats."""

    def __init__(self, fs: Fs, layout: Layout, clock: Clock, patience_s: float) -> None:
        self._fs = fs
        self._layout = layout
        self._clock = clock
        self._patience_s = patience_s
        self._seen: dict[str, _Evidence] = {}

    def reset(self) -> None:
        """Forget all evidence: I, the mount or my clock stood still."""
        self._seen.clear()

    def look(self, worker: str) -> BeatRecord | None:
        """Read a peer's beat once and add to the evidence; the record when it could be parsed."""
        asked = self._clock.monotonic()
        path = self._layout.live_of(worker)
        try:
            data = self._fs.read(path, records.SMALL_LIMIT_BYTES)
        except FileNotFoundError:
            self._seen.pop(worker, None)
            return None
        except (OSError, RecordError):  # of this one file: what was seen of others stands
            self._seen.pop(worker, None)
            return None
        now = self._clock.monotonic()
        tolerated = self._patience_s / BEATS_IN_PATIENCE
        known = self._seen.get(worker)
        record = known.record if known is not None and known.data == data else _parsed(data, path)
        if now - asked > tolerated:  # a slow read may bring old bytes
            self._seen.pop(worker, None)
        elif known is None or known.data != data or now - known.last_read > 3 * tolerated:
            self._seen[worker] = _Evidence(data, record, asked, now, 1)
        else:
            known.reads += 1
            known.last_read = now
        return record

    def last_record(self, worker: str) -> BeatRecord | None:
        """What a peer said last, as far as I have seen it."""
        known = self._seen.get(worker)
        return None if known is None else known.record

    def is_suspect(self, worker: str) -> bool:
        """Whether the evidence says that *worker* has stood still for T."""
        known = self._seen.get(worker)
        return (
            known is not None and known.reads >= BEATS_IN_PATIENCE and known.last_read - known.since >= self._patience_s
        )

    def shows_life(self, worker: str) -> bool:
        """Whether the last look at *worker* found other bytes than the one before it, or was the first."""
        known = self._seen.get(worker)
        return known is not None and known.reads == 1

    def forget_all_but(self, workers: list[str]) -> None:
        """Keep evidence only about *workers*."""
        kept = set(workers)
        for worker in [each for each in self._seen if each not in kept]:
            del self._seen[worker]

    def is_dead_here(self, worker: str) -> bool:
        """True when *worker*, of my own kernel, no longer holds its OS lock. Only a hint to act early."""
        path = self._layout.oslock_of(worker)
        lock = self._fs.try_lock(path)
        if lock is None:
            return False
        try:
            self._fs.unlink(path)  # nobody will ever hold it again
        except FileNotFoundError:
            pass
        lock.release()
        return True


def live_workers(fs: Fs, layout: Layout) -> list[str]:
    """Ids in live/, sorted; one fresh listing."""
    return sorted(filter(is_worker, fs.names(layout.live)))


def graves(fs: Fs, layout: Layout) -> list[str]:
    """Ids in dead/, sorted: workers whose tickets are being taken back."""
    return sorted(filter(is_worker, fs.names(layout.dead)))
