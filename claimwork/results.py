"""Publishing: give a file its public name once, adopt what is there already, and say that inputs are done.

Sequence for one input: `Stage.put` → `Fs.flush` → **`publish`** (the commit point) → unlink the staged name. Inputs that are
attempted again go through **`settle`** first, so that a result and a quarantine report can never both stand.

Whatever a worker creates anywhere starts as a file in its own stage directory and is linked or renamed from there. Once
peers have emptied and removed that directory, the worker can create nothing more, however late its requests arrive.

Failure rule: an error says nothing about whether the step happened. `publish` looks whether the name is its own file,
tries again a few times, and then raises; the ticket stays where it is, so the next owner finds all this and goes on.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import records
from .errors import Fenced, RecordError
from .fs import Fs
from .layout import Layout
from .names import mirrored, number_name, parse_range, range_name
from .policy import INLINE_BYTES
from .records import Done, Failure, Input, Job, Outcome, Ran

_TRIES = 5  # a link that fails so often with its parent in place has a lasting cause


class Stage:
    """A worker's private temporaries. *prefix* keeps the children of one worker apart."""

    def __init__(self, fs: Fs, layout: Layout, worker: str, prefix: str) -> None:
        self._fs = fs
        self.directory = layout.stage_of(worker)
        self._prefix = prefix
        self._count = 0

    def path(self) -> str:
        """A fresh name, never used before."""
        self._count += 1
        return f"{self.directory}/{self._prefix}-{self._count}"

    def put(self, data: bytes) -> str:
        """Stage *data* under a fresh name. Raises Fenced when peers have removed the directory."""
        for again in range(_TRIES, 0, -1):
            path = self.path()  # a new file for each try: what an earlier one left is not to be trusted
            try:
                self._fs.stage(path, data)
            except OSError as error:
                if again == 1 or error.errno not in (errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT):
                    raise _fenced_or(error) from error
            else:
                return path
        raise AssertionError

    def flush(self, path: str) -> None:
        """Make a staged file survive a power loss. Raises Fenced when peers have removed the directory."""
        try:
            self._fs.flush([path])
        except OSError as error:
            raise _fenced_or(error) from error

    def holds(self, path: str) -> bool:
        """Whether a staged file is still there, by a fresh listing. Raises Fenced when the directory is gone."""
        try:
            return path.rpartition("/")[2] in self._fs.names(self.directory)
        except OSError as error:
            raise _fenced_or(error) from error

    def discard(self, path: str) -> None:
        """Forget a staged file; one that is gone already is fine."""
        try:
            remove_staged(self._fs, path)
        except FileNotFoundError:
            pass


def remove_staged(fs: Fs, path: str) -> None:
    """Remove whatever stands in a stage: a program may have made a directory of its ``{output}``."""
    try:
        fs.unlink(path)
    except IsADirectoryError:
        fs.remove_tree(path)


def purge_stage(fs: Fs, layout: Layout, worker: str, prefix: str) -> None:
    """Remove what a child that was killed had staged: a link that it sent and the server has yet to execute then fails."""
    stage = layout.stage_of(worker)
    try:
        for name in fs.names(stage):
            if name.startswith(prefix):
                remove_staged(fs, f"{stage}/{name}")
    except FileNotFoundError:
        pass


def _fenced_or(error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return Fenced("the stage directory is gone: peers took this worker for dead")
    return error


def publish(fs: Fs, source: str, target: str, out: str) -> bool:
    """Link *source* to *target* without replacing. True: *target* is this very file. False: somebody was first.

    Guarantee: when it returns, *target* exists, is whole, and will never change. Raises Fenced when *source* is gone,
    OSError for a lasting error. *out* is the directory below which missing parents are made.
    """
    last: OSError | None = None
    for _ in range(_TRIES):
        try:
            fs.link(source, target)
            return True
        except FileExistsError:
            return _is_same(fs, source, target)
        except FileNotFoundError as error:
            last = error
            if _is_same(fs, source, target):
                return True
            if fs.inode(source) is None:
                raise Fenced("the staged file is gone: peers took this worker for dead") from error
            make_parents(fs, target, out)
        except OSError as error:
            last = error
            if _is_same(fs, source, target):
                return True
            if error.errno not in (errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.ENOTDIR):
                raise
    assert last is not None
    raise last


def _is_same(fs: Fs, source: str, target: str) -> bool:
    # a wrong "no" is harmless: the caller then adopts the target, which is the same file
    try:
        mine = fs.inode(source)
        return mine is not None and fs.inode(target) == mine
    except OSError:
        return False


def make_parents(fs: Fs, path: str, out: str) -> None:
    """Create the missing directories above *path*, down from *out*."""
    parents = path[len(out) + 1 :].split("/")[:-1]
    at = out
    for part in parents:
        at = f"{at}/{part}"
        fs.mkdir(at)


def present(fs: Fs, path: str) -> bool:
    """Whether a name exists, by a fresh listing when a look-up says that it does not: a look-up may be stale."""
    return fs.inode(path) is not None or is_listed(fs, path)


def is_listed(fs: Fs, path: str) -> bool:
    """Whether a name exists, by a fresh listing."""
    parent, _, name = path.rpartition("/")
    try:
        return name in fs.names(parent)
    except FileNotFoundError:
        return False


def adopt(fs: Fs, path: str) -> Outcome:
    """The outcome that a published result stands for. Raises RecordError when *path* is no plain file."""
    try:
        size, digest, data = fs.digest(path, INLINE_BYTES)
    except FileNotFoundError:
        fs.names(path.rpartition("/")[0])  # cures a stale look-up
        size, digest, data = fs.digest(path, INLINE_BYTES)
    return outcome_of(size, digest, data)


def outcome_of(size_bytes: int, digest: str, data: bytes | None, ran: Ran | None = None) -> Outcome:
    """What a result stands for whose bytes nobody has vouched for; *data* are these where they are few."""
    if data is not None:
        try:
            return Outcome(True, size_bytes, digest, has_value=True, value=value_of(data), ran=ran)
        except RecordError:
            pass
    return Outcome(True, size_bytes, digest, ran=ran)


def value_of(data: bytes) -> object:
    """The value that the bytes of a result mean: JSON where they are JSON, else text. RecordError for other bytes."""
    try:
        return records.loads(data, "a result")
    except RecordError:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise RecordError("a result is neither JSON nor UTF-8 text") from None


@dataclass(slots=True)  # not frozen: see `records.Ran`
class Places:
    """Where the outcome of one input is published. ``retried``: it was quarantined in an earlier generation, and the
    report of that stands until this one is settled.
    """

    result: str
    retried: bool
    _layout: Layout
    _job: Job
    _segment: int
    _index: int
    _input: Input

    @classmethod
    def of(cls, layout: Layout, job: Job, segment: int, index: int, each: Input) -> Places:
        """The places of input *index* of *segment*."""
        result = mirrored(each.path, job.suffix) if each.result is None else each.result
        return cls(f"{layout.results}/{result}", each.of is not None, layout, job, segment, index, each)

    @property
    def quarantine(self) -> str:
        """Where its report stands; most inputs get none, so it is named when somebody asks."""
        named, path = self._input.result, self._input.path
        report = mirrored(path, ".json") if named is None else named.removesuffix(self._job.suffix) + ".json"
        return f"{self._layout.quarantine}/{report}"

    @property
    def settled(self) -> str:
        """Where it is decided between a result and a report."""
        return f"{self._layout.settled_of(self._segment)}/{self._index}"

    def directories(self, *, ok: bool) -> set[str]:
        """Where the names are that make an outcome stand; flushed before it is reported done."""
        names = [self.result] if ok else [self.quarantine, self.settled]
        return {name.rpartition("/")[0] for name in names}


def settle(fs: Fs, layout: Layout, job: Job, places: Places, staged: str) -> tuple[bool, Outcome]:
    """Decide once and for all how an input that was attempted before ends, and publish the decision.

    *staged* is a flushed result or quarantine report. Returns whether it is the one that stands, and the outcome that
    does. Any number of workers may settle one input: the first link to the settled name decides, everybody publishes
    that one, and all return the same outcome.
    """
    mine = publish(fs, staged, places.settled, layout.out)
    return mine, _complete(fs, layout, job, places, f"{staged}r")


def settled(fs: Fs, layout: Layout, job: Job, places: Places, via: str) -> Outcome | None:
    """How an input ended already, completing a publication that was begun; None when that is not known.

    *via* is a fresh name in my stage. None may be a lie of a stale cache: running the input once more is then the only harm.
    """
    if fs.inode(places.settled) is not None:
        return _complete(fs, layout, job, places, via)
    if fs.inode(places.result) is None:
        return None
    _withdraw_report(fs, places)
    return adopt(fs, places.result)


def settled_indexes(fs: Fs, layout: Layout, segment: int) -> set[int]:
    """Inputs of a segment that somebody has settled: few, and mostly none; one or two fresh listings."""
    if number_name(segment) not in fs.names(layout.settled):
        return set()
    return {int(name) for name in fs.names(layout.settled_of(segment)) if name.isascii() and name.isdigit()}


def _complete(fs: Fs, layout: Layout, job: Job, places: Places, via: str) -> Outcome:
    report = quarantine_report(fs, job, places.settled)
    if report is None:
        publish(fs, places.settled, places.result, layout.out)
        _withdraw_report(fs, places)
        return adopt(fs, places.result)
    # by a name of mine that goes: a request that was given up, and comes when a later result has withdrawn the report, fails
    publish(fs, places.settled, via, layout.out)
    shown = publish(fs, via, places.quarantine, layout.out)
    if not shown and places.retried:  # the report of an earlier generation stands there
        fs.rename(via, places.quarantine)
    try:
        fs.unlink(via)  # also after a rename: one between two names of one file leaves both
    except FileNotFoundError:
        pass
    return Outcome(False, reason=report[-1].error)


def _withdraw_report(fs: Fs, places: Places) -> None:
    """Remove the report of an earlier generation: the input has its result now."""
    if places.retried and present(fs, places.quarantine):
        try:
            fs.unlink(places.quarantine)
        except FileNotFoundError:
            pass


def quarantine_report(fs: Fs, job: Job, path: str) -> tuple[Failure, ...] | None:
    """The attempts, when the file at *path* is a quarantine report of this job rather than a result."""
    try:
        _, _, data = fs.digest(path, records.SMALL_LIMIT_BYTES)
    except FileNotFoundError:
        fs.names(path.rpartition("/")[0])
        _, _, data = fs.digest(path, records.SMALL_LIMIT_BYTES)
    return None if data is None else records.parse_quarantine(data, path, job.id)


def write_done(
    fs: Fs,
    layout: Layout,
    stage: Stage,
    segment: int,
    outcomes: dict[int, Outcome],
    published: Iterable[str],
) -> None:
    """Say that inputs are done: one record for each unbroken run of *outcomes*, keyed by index.

    Every result must be published before; *published* are the directories that got names, flushed here together with
    the record. Commit point: **link to done/…**. A record of the same range is as good as this one.
    """
    staged = []
    for lo, hi in runs(sorted(outcomes)):
        done = Done(segment, lo, hi, stage.directory[-32:], [outcomes[index] for index in range(lo, hi)])
        staged.append((stage.put(records.encode_done(done)), range_name(lo, hi)))
    fs.flush([*(path for path, _ in staged), *sorted(published)])
    for path, name in staged:
        publish(fs, path, f"{layout.done_of(segment)}/{name}", layout.out)
        stage.discard(path)


def runs(indexes: Sequence[int]) -> list[tuple[int, int]]:
    """Unbroken runs in a sorted sequence, as half-open ranges."""
    found: list[tuple[int, int]] = []
    for index in indexes:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


def done_ranges(fs: Fs, layout: Layout, segment: int) -> list[tuple[int, int]]:
    """The ranges of a segment that have a done record, in order; they may overlap. One fresh listing."""
    try:
        names = fs.names(layout.done_of(segment))
    except FileNotFoundError:
        return []
    return sorted(filter(None, map(parse_range, names)))


def is_done(fs: Fs, layout: Layout, segment: int, index: int) -> bool:
    """Whether an input has a done record; one fresh listing."""
    return any(lo <= index < hi for lo, hi in done_ranges(fs, layout, segment))


def read_done(fs: Fs, layout: Layout, segment: int, lo: int, hi: int) -> Done:
    """One done record. Raises RecordError when it is damaged."""
    path = f"{layout.done_of(segment)}/{range_name(lo, hi)}"
    done = records.parse_done(fs.read(path, records.DONE_LIMIT_BYTES), path)
    if (done.segment, done.lo, done.hi) != (segment, lo, hi):
        raise RecordError(f"{path!r} speaks of other inputs than its name")
    return done
