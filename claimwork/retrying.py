"""An `Fs` that repeats a call which the mount answered with a passing error.

Repeating is safe because no name ever comes back: a link, rename or unlink that happened although it was answered with an
error is answered with EEXIST or ENOENT the second time, and the callers in `claims` and `results` find out what that means as
they do for any lost reply. Waits are short against T, so that a worker that repeats still beats.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TypeVar

from .clock import Clock
from .fs import Beat, Fs, Lock

# ETIMEDOUT, EIO: a soft or interrupted mount. ESTALE: a handle from before a server restart or somebody's rmdir.
PASSING = frozenset({errno.EIO, errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTDOWN})
WAITS_S = (0.05, 0.2, 0.8, 2.0)  # three seconds in all, a fifth of a beat

T = TypeVar("T")


class RetryingFs:
    """`Fs` over another one; the last error passes through."""

    def __init__(self, fs: Fs, clock: Clock) -> None:
        self.kind = fs.kind
        self._fs = fs
        self._clock = clock

    def _again(self, call: Callable[[], T], error: OSError) -> T:
        for wait_s in WAITS_S:
            if error.errno not in PASSING:
                break
            self._clock.sleep(wait_s)
            try:
                return call()
            except OSError as another:
                error = another
        raise error

    def names(self, path: str) -> list[str]:
        try:
            return self._fs.names(path)
        except OSError as error:
            return self._again(lambda: self._fs.names(path), error)

    def read(self, path: str, limit_bytes: int) -> bytes:
        try:
            return self._fs.read(path, limit_bytes)
        except OSError as error:
            return self._again(lambda: self._fs.read(path, limit_bytes), error)

    def inode(self, path: str) -> tuple[int, int] | None:
        try:
            return self._fs.inode(path)
        except OSError as error:
            return self._again(lambda: self._fs.inode(path), error)

    def mkdir(self, path: str) -> None:
        try:
            self._fs.mkdir(path)
        except OSError as error:
            self._again(lambda: self._fs.mkdir(path), error)

    def make_own(self, path: str) -> None:
        self._fs.make_own(path)

    def stage(self, path: str, data: bytes) -> None:
        self._fs.stage(
            path, data
        )  # the first request may come late and truncate what the second one wrote: see Stage.put

    def seal(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        return self._fs.seal(path, keep_bytes)  # after a failed fsync the file is not to be trusted

    def flush(self, paths: Iterable[str]) -> None:
        self._fs.flush(paths)  # same

    def digest(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        try:
            return self._fs.digest(path, keep_bytes)
        except OSError as error:
            return self._again(lambda: self._fs.digest(path, keep_bytes), error)

    def link(self, source: str, target: str) -> None:
        try:
            self._fs.link(source, target)
        except OSError as error:
            self._again(lambda: self._fs.link(source, target), error)

    def rename(self, source: str, target: str) -> None:
        try:
            self._fs.rename(source, target)
        except OSError as error:
            self._again(lambda: self._fs.rename(source, target), error)

    def unlink(self, path: str) -> None:
        try:
            self._fs.unlink(path)
        except OSError as error:
            self._again(lambda: self._fs.unlink(path), error)

    def remove_tree(self, path: str) -> None:
        self._fs.remove_tree(path)

    def rmdir(self, path: str) -> None:
        try:
            self._fs.rmdir(path)
        except OSError as error:
            self._again(lambda: self._fs.rmdir(path), error)

    def open_beat(self, path: str, data: bytes) -> Beat:
        try:
            return self._fs.open_beat(path, data)
        except OSError as error:
            return self._again(lambda: self._fs.open_beat(path, data), error)

    def try_lock(self, path: str) -> Lock | None:
        return self._fs.try_lock(path)
