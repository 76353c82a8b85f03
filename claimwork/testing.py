"""Fakes that behave like the real thing, for tests of claimwork and of your own tasks; production code never imports them.

- `run_task` runs your task on one file as a worker would, without a job.
- `ManualClock` is a `clock.Clock` on which an hour passes when a test says so.
- `MemoryServer` is a filesystem in memory; it passes the same tests as the real one (tests/protocol/). Each simulated
  process has its own `MemoryFs` on it.
- `HookedFs` wraps any `Fs` so that each call passes `before` and `after`: a scheduler may switch there, an exception
  raised in `before` is a request that was never sent, one raised in `after` a reply that was lost, and a request kept from
  `before` may be executed on ``inner`` when its sender is long dead. `FaultyFs` is the simplest use of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from . import records
from .fs import Beat, Fs, Lock
from .memory_fs import MemoryServer
from .policy import part_bounds, part_count
from .tasks import Attempt, PythonRunner, Task

__all__ = [
    "MUTATING",
    "Died",
    "FaultyFs",
    "HookedFs",
    "ManualClock",
    "MemoryFs",
    "MemoryServer",
    "PausingFs",
    "run_task",
]

MUTATING = frozenset(["mkdir", "stage", "link", "rename", "unlink", "rmdir", "open_beat", "write_beat"])


def run_task(
    task: Task | Callable[..., Any], path: str | os.PathLike[str], *, number: int = 1, split: int | None = None
) -> Any:
    """What *task* makes of the file at *path* in attempt *number*, as it would stand in the result. Exceptions pass.

    With *split* a larger file is processed in parts of so many bytes, which are merged: as a job with ``--split`` does.
    """
    path = os.fspath(path)
    size = os.path.getsize(path)
    runner = PythonRunner(task if isinstance(task, Task) else Task(task))

    def value(start: int, stop: int) -> Any:
        attempt = Attempt(number, os.path.basename(path), size, _NeverLost(), start, stop)
        try:
            return records.loads(records.dumps(runner.value(path, attempt)), "the value of the task")
        finally:
            attempt.cleanup()

    count = part_count(size, split)
    if split is None or count == 1:
        return value(0, size)
    parts = (value(*part_bounds(nth, size, split)) for nth in range(count))
    return records.loads(runner.merged(parts), "the value of the task")


class _NeverLost:
    @staticmethod
    def is_set() -> bool:
        return False


class ManualClock:
    """Time that only moves when told to, or by sleeping. ``wall`` may be set to anything, as people do to clocks."""

    def __init__(self, on_sleep: Callable[[float], None] | None = None) -> None:
        self.now = 1000.0
        self.wall = 1.75e9
        self.on_sleep = on_sleep

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.now += seconds
        self.wall += seconds

    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))
        if self.on_sleep is not None:
            self.on_sleep(seconds)


class Died(BaseException):
    """A simulated process was killed: nothing in it may catch this."""


class HookedFs:
    """One simulated process's view of *inner*: every call passes `before` and `after`. Override or assign them."""

    def __init__(self, inner: Fs) -> None:
        self.inner = inner
        self.kind = inner.kind
        self.dead = False
        self._locks: list[Lock] = []

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        """Runs before each call; an exception raised here means that the request was never sent."""

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        """Runs after each call that succeeded; an exception raised here means that the reply was lost."""

    def die(self) -> None:
        """Kill the process: its OS locks are free, and each further call raises `Died`."""
        self.dead = True
        for lock in self._locks:
            lock.release()

    def names(self, path: str) -> list[str]:
        return self._call("names", self.inner.names, path)  # type: ignore[no-any-return]

    def read(self, path: str, limit_bytes: int) -> bytes:
        return self._call("read", self.inner.read, path, limit_bytes)  # type: ignore[no-any-return]

    def inode(self, path: str) -> tuple[int, int] | None:
        return self._call("inode", self.inner.inode, path)  # type: ignore[no-any-return]

    def mkdir(self, path: str) -> None:
        self._call("mkdir", self.inner.mkdir, path)

    def make_own(self, path: str) -> None:
        self.mkdir(path)

    def stage(self, path: str, data: bytes) -> None:
        self._call("stage", self.inner.stage, path, data)

    def seal(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        return self._call("seal", self.inner.seal, path, keep_bytes)  # type: ignore[no-any-return]

    def flush(self, paths: Iterable[str]) -> None:
        self._call("flush", self.inner.flush, list(paths))

    def digest(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        return self._call("digest", self.inner.digest, path, keep_bytes)  # type: ignore[no-any-return]

    def link(self, source: str, target: str) -> None:
        self._call("link", self.inner.link, source, target)

    def rename(self, source: str, target: str) -> None:
        self._call("rename", self.inner.rename, source, target)

    def unlink(self, path: str) -> None:
        self._call("unlink", self.inner.unlink, path)

    def remove_tree(self, path: str) -> None:
        self._call("remove_tree", self.inner.remove_tree, path)

    def rmdir(self, path: str) -> None:
        self._call("rmdir", self.inner.rmdir, path)

    def open_beat(self, path: str, data: bytes) -> Beat:
        return _HookedBeat(self, self._call("open_beat", self.inner.open_beat, path, data))

    def try_lock(self, path: str) -> Lock | None:
        lock: Lock | None = self._call("try_lock", self.inner.try_lock, path)
        if lock is not None:
            self._locks.append(lock)
        return lock

    def _call(self, op: str, function: Callable[..., Any], *args: Any) -> Any:
        if self.dead:
            raise Died
        self.before(op, args)
        result = function(*args)
        self.after(op, args)
        return result


class _HookedBeat:
    def __init__(self, fs: HookedFs, beat: Beat) -> None:
        self._fs = fs
        self._beat = beat

    def write(self, data: bytes) -> None:
        self._fs._call("write_beat", self._beat.write, data)  # noqa: SLF001 - one class in two

    def close(self) -> None:
        self._beat.close()


class MemoryFs(HookedFs):
    """A simulated process on a `MemoryServer`, its own or a shared one."""

    def __init__(self, server: MemoryServer | None = None) -> None:
        super().__init__(server or MemoryServer())


class PausingFs(HookedFs):
    """Stops before one call and lets something else happen meanwhile; ``calls`` counts them."""

    def __init__(self, inner: Fs) -> None:
        super().__init__(inner)
        self.calls = 0
        self._at = -1
        self._meanwhile: Callable[[], object] | None = None

    def pause(self, at: int, meanwhile: Callable[[], object]) -> None:
        """Count anew; stop before call number *at*."""
        self.calls, self._at, self._meanwhile = 0, at, meanwhile

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        self.calls += 1
        if self.calls - 1 == self._at and self._meanwhile is not None:
            self._meanwhile()


class FaultyFs(HookedFs):
    """Lets mutating call number ``at`` (from 0) go wrong: raises *error* before it, or after it was executed.

    ``calls`` lists the mutating calls so far, so that a clean run tells how many there are.
    """

    def __init__(self, inner: Fs, at: int = -1, error: BaseException | None = None, *, executed: bool = True) -> None:
        super().__init__(inner)
        self.calls: list[str] = []
        self._at = at
        self._error = error
        self._executed = executed

    def before(self, op: str, args: tuple[Any, ...]) -> None:
        if op in MUTATING:
            self.calls.append(op)
            if not self._executed:
                self._fail()

    def after(self, op: str, args: tuple[Any, ...]) -> None:
        if op in MUTATING and self._executed:
            self._fail()

    def _fail(self) -> None:
        if len(self.calls) - 1 == self._at and self._error is not None:
            raise self._error
