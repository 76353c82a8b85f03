"""A filesystem in memory with the semantics of a local Linux one; it passes the same tests (tests/protocol/).

Only for tests: `claimwork.testing` puts simulated processes on it.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from random import Random

from .errors import RecordError
from .fs import DIGEST_BYTES, Beat, Lock, encode_path
from .names import NAME_MAX_BYTES


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
        self._walked: dict[str, _Directory] = {}  # forgotten when it goes; all when one moves

    def names(self, path: str) -> list[str]:
        node: _Directory | _File = self._walked.get(path) or self._node(path)
        if not isinstance(node, _Directory):
            raise _error(errno.ENOTDIR, path)
        names = [name for name in node.entries if not name.startswith(".nfs")]
        if self._rng is not None and len(names) > 1:
            draw = self._rng.random  # a random key for each shuffles, too, and costs less than shuffle()
            names.sort(key=lambda _name: draw())
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

    def make_own(self, path: str) -> None:
        self.mkdir(path)

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

    def remove_tree(self, path: str) -> None:
        for name in self.names(path):
            if isinstance(self._node(f"{path}/{name}"), _Directory):
                self.remove_tree(f"{path}/{name}")
            else:
                self.unlink(f"{path}/{name}")
        self.rmdir(path)

    def rmdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if (node := parent.entries.get(name)) is None:
            raise _error(errno.ENOENT, path)
        if not isinstance(node, _Directory):
            raise _error(errno.ENOTDIR, path)
        if node.entries:
            raise _error(errno.ENOTEMPTY, path)
        self._walked.pop(path, None)  # it was empty, so there is nothing below it
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
        if "//" not in directory and not directory.endswith("/"):  # else a directory had several names here
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

    def __repr__(self) -> str:  # without an address: histories of one seed are compared
        return f"<beat {self._node.inode}>"

    def write(self, data: bytes) -> None:
        self._node.data = data + self._node.data[len(data) :]

    def close(self) -> None:
        pass


class _MemoryLock:
    def __init__(self, node: _File) -> None:
        self._node: _File | None = node

    def __repr__(self) -> str:
        return f"<lock {self._node.inode if self._node else 'released'}>"

    def release(self) -> None:
        if self._node is not None:
            self._node.locked = False
            self._node = None


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)  # OSError makes it a FileNotFoundError and so on
