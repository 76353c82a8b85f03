"""Every system call that claimwork makes on OUT, each with its guarantee, its errors and its lost-reply rule.

`Fs` is the whole of what the protocol knows of a filesystem; `PosixFs` is the real one, `claimwork.testing.MemoryFs`
models NFS for tests. The methods are thin: one call, one system call that changes something. What to do when a reply
was lost is decided by the callers in `claims` and `results`, so that the simulation exercises those decisions:

- link, rename, unlink, mkdir, rmdir may raise although they happened (a server restart loses its reply cache, and a
  retransmission then answers ENOENT or EEXIST). link: compare inodes. rename: list the directory it should be in.
- names() opens the directory afresh each time (network mounts: `listing`): the only look-up that NFS answers truthfully at
  once. A single name asked for too early stays ENOENT for up to a minute for inode(), read() and rename's source.
  Absence proves nothing.
- link is answered by the server: of many racers exactly one wins. (Nothing here relies on O_EXCL: on NFSv4.1 we saw two win.)

Paths are str with undecodable bytes as surrogate escapes; they are encoded as UTF-8 whatever the locale says.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .clock import Clock, SystemClock
from .errors import RecordError
from .listing import FreshListing

if TYPE_CHECKING:
    from filelock import FileLock

DIGEST_BYTES = 16  # 128 bits: collisions are out of reach, and a done record stays small
_CHUNK_BYTES = 1 << 18
_SYNC_ALL_FROM = 4  # from so many files on, one syncfs is cheaper than an fsync for each (measured on ext4)

# Filesystems whose renames and links are one atomic step of one kernel. Anything unknown is treated as a network mount.
_LOCAL = frozenset(
    [
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "tmpfs",
        "ramfs",
        "overlay",
        "zfs",
        "f2fs",
        "bcachefs",
        "jfs",
        "apfs",
        "hfs",
    ]
)
_ATOMIC_RENAME = _LOCAL | {"nfs", "nfs4"}
_LOCKS_OF_ONE_MOUNT = frozenset(["nolock", "local_lock=all", "local_lock=flock", "nobrl"])


class Beat(Protocol):
    """A heartbeat file held open by its owner."""

    def write(self, data: bytes) -> None:
        """Overwrite the record in place; on return a peer that opens the file reads *data*. May raise OSError."""

    def close(self) -> None:
        """Let go of the file; never raises."""


class Lock(Protocol):
    """An OS lock that dies with its process."""

    def release(self) -> None:
        """Give the lock up; never raises."""


class Fs(Protocol):
    """What the protocol needs of OUT. All methods may raise OSError; see the module's docstring for what that means."""

    kind: str
    """Filesystem type as the kernel names it, for example ``ext4`` or ``nfs4``."""

    def names(self, path: str) -> list[str]:
        """Names in a directory by a fresh listing, in no order, without NFS's own ``.nfs…`` files."""

    def read(self, path: str, limit_bytes: int) -> bytes:
        """A whole small file. Raises RecordError for a link, a FIFO, a device or more than *limit_bytes*."""

    def inode(self, path: str) -> tuple[int, int] | None:
        """Device and inode of a name, links not followed; None when absent, which may be a lie."""

    def mkdir(self, path: str) -> None:
        """Create a directory; it may exist already. Its parent must exist."""

    def make_own(self, path: str) -> None:
        """`mkdir` that is asked for once and never repeated, for a directory whose removal is to fence me: a first request
        that was given up could be executed long after that, and make it again.
        """

    def stage(self, path: str, data: bytes) -> None:
        """Write a private file whole. Durable on return on a network mount, after `flush` on a local one."""

    def seal(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        """Flush a file that another program wrote: `digest` of it, and durable on return."""

    def flush(self, paths: Iterable[str]) -> None:
        """Make staged files, and on a local filesystem the names beside them, survive a power loss."""

    def digest(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        """Size, digest, and the content itself when it has at most *keep_bytes*. Regular files only, else RecordError."""

    def link(self, source: str, target: str) -> None:
        """Publish: give a staged file its public name. Exactly one of many racers wins; others get FileExistsError."""

    def rename(self, source: str, target: str) -> None:
        """Move a name. Callers only use targets that cannot exist, but for the summary's pointer."""

    def unlink(self, path: str) -> None:
        """Remove a name. FileNotFoundError may mean that it already happened."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all in it, as far as that goes: what a program left in a stage. Links not followed."""

    def rmdir(self, path: str) -> None:
        """Remove an empty directory: from then on nothing can be created or renamed into it, however late.

        NFS's own ``.nfs…`` files, which `names` does not show, are removed with it.
        """

    def open_beat(self, path: str, data: bytes) -> Beat:
        """Create a heartbeat file and keep it open. Its name is random, so one that exists is my own, its reply lost."""

    def try_lock(self, path: str) -> Lock | None:
        """Take the OS lock at *path* without waiting; None when a living process holds it, or locks tell nothing here.

        A hint, never an exclusion.
        """


def digest_of(data: bytes) -> str:
    """The digest that done records carry: BLAKE2b, 128 bits, as hex."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def encode_path(path: str) -> bytes:
    """The bytes of a path: UTF-8 and surrogate escapes, whatever the locale."""
    return path.encode("utf-8", "surrogateescape")


def decode_path(name: bytes) -> str:
    """Inverse of `encode_path`."""
    return name.decode("utf-8", "surrogateescape")


def has_atomic_rename(kind: str) -> bool:
    """True when rename on this type of filesystem is known to be one atomic step for all its clients."""
    return kind in _ATOMIC_RENAME


def is_local(kind: str) -> bool:
    """True when a filesystem of this type is known to be served by this kernel alone; calls cost no round trips then."""
    return kind in _LOCAL


@dataclass(frozen=True, slots=True)
class MountEntry:
    """What the kernel's mount table says of a mount: type, source, and options of mount and filesystem together."""

    kind: str = "unknown"
    source: str = ""
    options: frozenset[str] = frozenset()


def mount_entry(path: str) -> MountEntry:
    """The mount that holds *path*, by /proc/self/mountinfo (proc_pid_mountinfo(5)); of unknown type where there is none."""
    best, found = "", MountEntry()
    try:
        wanted = os.path.realpath(path)
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                left, _, right = line.rstrip("\n").partition(" - ")
                fields, (kind, source, options) = left.split(" "), right.split(" ")[:3]
                point = fields[4].encode("latin-1", "replace").decode("unicode_escape")
                inside = wanted == point or wanted.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):  # a later mount on the same point hides the earlier
                    best = point
                    found = MountEntry(kind, source, frozenset([*fields[5].split(","), *options.split(",")]))
    except (OSError, IndexError, ValueError):
        return MountEntry()
    return found


def filesystem_kind(path: str) -> str:
    """Type of the filesystem that holds *path*, by the kernel's mount table; ``unknown`` where there is none."""
    return mount_entry(path).kind


def shares_locks(entry: MountEntry) -> bool:
    """Whether an OS lock taken through one mount of this filesystem is seen through every other one of the same kernel.

    Two NFS mounts with different options are two filesystems to the kernel; with ``nolock`` or ``local_lock`` each has locks
    of its own (nfs(5)). A FUSE server that does not ask for locks has them per mount as well.
    """
    return not entry.kind.startswith("fuse") and entry.options.isdisjoint(_LOCKS_OF_ONE_MOUNT)


class PosixFs:
    """The real filesystem under one root; the root only serves to learn the mount's type."""

    def __init__(self, root: str, clock: Clock | None = None) -> None:
        entry = mount_entry(root)
        self.kind = entry.kind
        self.local = self.kind in _LOCAL
        self._shares_locks = shares_locks(entry)
        self._root = encode_path(root)
        # bytes in, bytes out: either opens the directory anew, as the protocol demands
        self._list = os.listdir if self.local else FreshListing(clock or SystemClock()).names

    def names(self, path: str) -> list[str]:
        return [
            decode_path(name)
            for name in self._list(encode_path(path))
            if not name.startswith(b".nfs")  # left by the NFS client for a file unlinked while open
        ]

    def read(self, path: str, limit_bytes: int) -> bytes:
        fd = _open_regular(path)
        try:
            data = os.read(fd, limit_bytes + 1)
            while data and len(data) <= limit_bytes:
                more = os.read(fd, limit_bytes + 1 - len(data))
                if not more:
                    return data
                data += more
        finally:
            os.close(fd)
        if data:
            raise RecordError(f"{path!r} is larger than {limit_bytes} bytes: not a record of claimwork")
        return data

    def inode(self, path: str) -> tuple[int, int] | None:
        try:
            found = os.lstat(encode_path(path))
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def mkdir(self, path: str) -> None:
        try:
            os.mkdir(encode_path(path), 0o777)
        except FileExistsError:
            pass

    def make_own(self, path: str) -> None:
        self.mkdir(path)

    def stage(self, path: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(encode_path(path), flags, 0o666)
        try:
            written = os.write(fd, data) if data else 0
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
            if not self.local:
                os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # reports ENOSPC, EDQUOT and EIO of delayed writes: never ignored

    def seal(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        fd = _open_regular(path)
        try:
            os.fsync(fd)
            return _digest_fd(fd, keep_bytes)
        finally:
            os.close(fd)

    def flush(self, paths: Iterable[str]) -> None:
        if not self.local:
            return  # stage() flushed each, and a server keeps its directories itself
        wanted = list(paths)
        if len(wanted) >= _SYNC_ALL_FROM and _syncfs is not None:
            _sync_filesystem(self._root)
            return
        for each in wanted:
            _fsync_path(encode_path(each))
        for parent in {os.path.dirname(encode_path(each)) for each in wanted}:
            _fsync_path(parent)

    def digest(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        fd = _open_regular(path)
        try:
            return _digest_fd(fd, keep_bytes)
        finally:
            os.close(fd)

    def link(self, source: str, target: str) -> None:
        os.link(encode_path(source), encode_path(target), follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        os.rename(encode_path(source), encode_path(target))

    def unlink(self, path: str) -> None:
        os.unlink(encode_path(path))

    def remove_tree(self, path: str) -> None:
        _make_writable(encode_path(path))
        shutil.rmtree(encode_path(path), ignore_errors=True)

    def rmdir(self, path: str) -> None:
        try:
            os.rmdir(encode_path(path))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _remove_silly(encode_path(path)):
                raise
            os.rmdir(encode_path(path))

    def open_beat(self, path: str, data: bytes) -> Beat:
        # not for reading: NFSv4 would lend the file, and whoever buries a dead worker would wait for the end of its lease
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        beat = _PosixBeat(os.open(encode_path(path), flags, 0o666), durable=not self.local)
        beat.write(data)
        return beat

    def try_lock(self, path: str) -> Lock | None:
        if not self._shares_locks:
            return None
        from filelock import FileLock, Timeout  # costs a tenth of a second: only who locks pays

        lock = FileLock(
            os.fsdecode(encode_path(path)),
            timeout=0,
            mode=0o666,
            thread_local=False,
            fallback_to_soft=False,
        )
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):
            return None  # held, or this mount has no locks: the beats will decide
        return _PosixLock(lock)


class _PosixBeat:
    def __init__(self, fd: int, *, durable: bool) -> None:
        self._fd = fd
        self._durable = durable

    def write(self, data: bytes) -> None:
        os.pwrite(self._fd, data, 0)
        if self._durable:  # without it an NFS client keeps the bytes for up to a minute
            os.fsync(self._fd)

    def close(self) -> None:
        try:
            os.close(self._fd)
        except OSError:
            pass


class _PosixLock:
    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def release(self) -> None:
        try:
            self._lock.release(force=True)
        except OSError:
            pass


def _open_regular(path: str) -> int:
    """Open for reading what must be a plain file: a FIFO would block, a link would lead anywhere."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(encode_path(path), flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise RecordError(f"{path!r} is a link or a device, not a plain file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RecordError(f"{path!r} is not a plain file")
    return fd


def _make_writable(path: bytes) -> None:
    """Let the owner empty each directory of a tree: programs make some that they may not write themselves."""
    pending = [path]
    while pending:
        directory = pending.pop()
        try:
            os.chmod(directory, 0o700)
            with os.scandir(directory) as entries:
                pending += [each.path for each in entries if each.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # somebody else's, or gone


def _remove_silly(directory: bytes) -> bool:
    """Remove what stands for files that an NFS client unlinked while they were open; True when something was removed.

    Nobody else will, if that client has lost its power.
    """
    removed = False
    for name in os.listdir(directory):
        if name.startswith(b".nfs"):
            try:
                os.unlink(directory + b"/" + name)
                removed = True
            except OSError:
                pass  # EBUSY: a process on this host has it open
    return removed


def _digest_fd(fd: int, keep_bytes: int) -> tuple[int, str, bytes | None]:
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    size, kept = 0, b""
    while chunk := os.read(fd, _CHUNK_BYTES):
        hasher.update(chunk)
        size += len(chunk)
        if size <= keep_bytes:
            kept += chunk
    return size, hasher.hexdigest(), kept if size <= keep_bytes else None


def _fsync_path(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


try:
    _syncfs: Any = ctypes.CDLL(None, use_errno=True).syncfs
except (OSError, AttributeError):  # macOS has none
    _syncfs = None


def _sync_filesystem(root: bytes) -> None:
    """syncfs(2): everything dirty on the filesystem of *root*; write-back errors are reported since Linux 5.8."""
    fd = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), decode_path(root))
    finally:
        os.close(fd)
