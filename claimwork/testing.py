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

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from . import records
from .errors import RecordError
from .fs import DIGEST_BYTES, Beat, Fs, Lock, encode_path
from .names import NAME_MAX_BYTES
from .task import Attempt, PythonRunner, Task

MUTATING = frozenset(["mkdir", "stage", "link", "rename", "unlink", "rmdir", "open_beat", "write_beat"])


def run_task(task: Task | Callable[..., Any], path: str | os.PathLike[str], *, number: int = 1) -> Any:
    """What *task* makes of the file at *path* in attempt *number*, as it would stand in the result. Exceptions pass."""
    path = os.fspath(path)
    attempt = Attempt(number, os.path.basename(path), os.path.getsize(path), _NeverLost())
    try:
        data = PythonRunner(task if isinstance(task, Task) else Task(task)).run(path, attempt, "")
    finally:
        attempt.cleanup()
    return records.loads(data or b"", "the value of the task")


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


# -- the tree ---------------------------------------------------------------------------------------------------------


class _Directory:
    __slots__ = ("entries", "inode")

    def __init__(self, inode: int) -> None:
        self.inode = inode
        self.entries: dict[str, _Directory | _File] = {}


class _File:
    __slots__ = ("data", "inode", "links", "locked")

    def __init__(self, inode: int) -> None:
        self.inode = inode
        self.data = b""
        self.links = 1
        self.locked = False


class MemoryServer:
    """A tree with the semantics of a local Linux filesystem; an `Fs` for whoever wants to look at it undisturbed.

    With *rng* listings come in any order, as they do from a real one.
    """

    def __init__(self, kind: str = "tmpfs", rng: Random | None = None) -> None:
        self.kind = kind
        self._rng = rng
        self._inodes = 1
        self._root = _Directory(1)
        self._walked: dict[str, _Directory] = {}  # emptied when a directory goes or moves

    def names(self, path: str) -> list[str]:
        node = self._node(path)
        if not isinstance(node, _Directory):
            raise _error(errno.ENOTDIR, path)
        names = [name for name in node.entries if not name.startswith(".nfs")]
        if self._rng is not None:
            self._rng.shuffle(names)
        return names

    def read(self, path: str, limit_bytes: int) -> bytes:
        data = self._file(path).data
        if len(data) > limit_bytes:
            raise RecordError(f"{path!r} is larger than {limit_bytes} bytes: not a record of claimwork")
        return data

    def inode(self, path: str) -> tuple[int, int] | None:
        try:
            return 1, self._node(path).inode
        except FileNotFoundError:
            return None

    def mkdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if name and name not in parent.entries:
            parent.entries[name] = _Directory(self._next_inode())

    def stage(self, path: str, data: bytes) -> None:
        parent, name = self._parent(path)
        found = parent.entries.get(name)
        if found is None:
            found = parent.entries[name] = _File(self._next_inode())
        elif isinstance(found, _Directory):
            raise _error(errno.EISDIR, path)
        found.data = bytes(data)  # under all its names

    def seal(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        return self.digest(path, keep_bytes)

    def flush(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._node(path)

    def digest(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        data = self._file(path).data
        digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()
        return len(data), digest, data if len(data) <= keep_bytes else None

    def link(self, source: str, target: str) -> None:
        node = self._node(source)
        parent, name = self._parent(target)
        if name in parent.entries:
            raise _error(errno.EEXIST, target)
        if isinstance(node, _Directory):
            raise _error(errno.EPERM, source)
        parent.entries[name] = node
        node.links += 1

    def rename(self, source: str, target: str) -> None:
        old_parent, old_name = self._parent(source)
        new_parent, new_name = self._parent(target)
        if (node := old_parent.entries.get(old_name)) is None:
            raise _error(errno.ENOENT, source)
        if isinstance(node, _Directory):
            if target.startswith(source + "/"):
                raise _error(errno.EINVAL, source)
            self._walked.clear()
        replaced = new_parent.entries.get(new_name)
        if replaced is node:
            return  # POSIX: two names of one file both stay
        if isinstance(replaced, _Directory):
            if not isinstance(node, _Directory):
                raise _error(errno.EISDIR, target)
            if replaced.entries:
                raise _error(errno.ENOTEMPTY, target)
        elif replaced is not None:
            if isinstance(node, _Directory):
                raise _error(errno.ENOTDIR, target)
            replaced.links -= 1
        del old_parent.entries[old_name]
        new_parent.entries[new_name] = node

    def unlink(self, path: str) -> None:
        parent, name = self._parent(path)
        if (node := parent.entries.get(name)) is None:
            raise _error(errno.ENOENT, path)
        if isinstance(node, _Directory):
            raise _error(errno.EISDIR, path)
        del parent.entries[name]
        node.links -= 1

    def rmdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if (node := parent.entries.get(name)) is None:
            raise _error(errno.ENOENT, path)
        if not isinstance(node, _Directory):
            raise _error(errno.ENOTDIR, path)
        if node.entries:
            raise _error(errno.ENOTEMPTY, path)
        self._walked.clear()
        del parent.entries[name]

    def open_beat(self, path: str, data: bytes) -> Beat:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            node = parent.entries[name] = _File(self._next_inode())
        elif isinstance(node, _Directory):
            raise _error(errno.EISDIR, path)
        beat = _MemoryBeat(node)
        beat.write(bytes(data))
        return beat

    def try_lock(self, path: str) -> Lock | None:
        try:
            if self.inode(path) is None:
                self.stage(path, b"")
            node = self._file(path)
        except (OSError, RecordError):
            return None
        if node.locked:
            return None
        node.locked = True
        return _MemoryLock(node)

    def links(self, path: str) -> int:
        """How many names a file has."""
        return self._file(path).links

    def _next_inode(self) -> int:
        self._inodes += 1
        return self._inodes

    def _parent(self, path: str) -> tuple[_Directory, str]:
        parent, _, name = path.rpartition("/")
        if len(name) > NAME_MAX_BYTES // 4 and len(name if name.isascii() else encode_path(name)) > NAME_MAX_BYTES:
            raise _error(errno.ENAMETOOLONG, path)
        return self._walked.get(parent) or self._walk(parent, path), name

    def _walk(self, directory: str, path: str) -> _Directory:
        node = self._root
        for each in directory.split("/"):
            if each:
                found = node.entries.get(each)
                if not isinstance(found, _Directory):
                    raise _error(errno.ENOENT if found is None else errno.ENOTDIR, path)
                node = found
        self._walked[directory] = node
        return node

    def _node(self, path: str) -> _Directory | _File:
        parent, name = self._parent(path)
        found = parent.entries.get(name) if name else parent
        if found is None:
            raise _error(errno.ENOENT, path)
        return found

    def _file(self, path: str) -> _File:
        found = self._node(path)
        if isinstance(found, _Directory):
            raise RecordError(f"{path!r} is not a plain file")
        return found


class _MemoryBeat:
    def __init__(self, node: _File) -> None:
        self._node = node

    def write(self, data: bytes) -> None:
        self._node.data = data + self._node.data[len(data) :]

    def close(self) -> None:
        pass


class _MemoryLock:
    def __init__(self, node: _File) -> None:
        self._node: _File | None = node

    def release(self) -> None:
        if self._node is not None:
            self._node.locked = False
            self._node = None


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)  # OSError makes it a FileNotFoundError and so on


# -- processes on it --------------------------------------------------------------------------------------------------


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
        self._fs._call("write_beat", self._beat.write, data)

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
