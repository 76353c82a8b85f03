"""A model of NFS: the server's tree, and what each client makes of it.

A client remembers names that it found absent until a listing cures that (`Host.absent`), answers stat from a cache
(`Host.attributes`), may take its last listing of a directory for a fresh one (`Host.listed`), and keeps handles of directories that
others have removed (`Host.removed`). A server that restarts makes some calls wait for the end of its grace period
(`WAITS_IN_GRACE`), and has forgotten its replies to the others. What each of them does was
measured on Linux kernels of their own: tests/nfs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from claimwork.testing import MUTATING, Died, HookedFs, MemoryServer
from tests.simulation.invariants import Violation

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.simulator import World

OUT = "/out"
ERRORS = (errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT)
RETRANSMITTED = {"link": errno.EEXIST, "rename": errno.ENOENT, "unlink": errno.ENOENT, "rmdir": errno.ENOENT}
# OPEN, LOCK, RENAME and REMOVE, which rmdir is as well, are refused until the grace period ends, and clients ask again;
# LINK, MKDIR, look-ups, listings and writes through an open file go on
WAITS_IN_GRACE = frozenset(
    ["stage", "read", "digest", "seal", "open_beat", "try_lock", "rename", "unlink", "rmdir", "remove_tree"]
)


class Server(MemoryServer):
    """The tree, with an eye on results/: what is published must never change or go."""

    def __init__(self, rng: Random, *, fresh: bool = True) -> None:
        super().__init__("nfs4", rng)
        self._fresh = fresh  # listings are never old
        self.published: dict[str, tuple[bytes, int]] = {}
        self.shown = ""

    def link(self, source: str, target: str) -> None:
        super().link(source, target)
        if target.startswith((f"{OUT}/results/", f"{OUT}/.claimwork/summary/", f"{OUT}/.claimwork/plan/")):
            node = self._file(target)
            self.published[target] = (node.data, node.inode)

    def rename(self, source: str, target: str) -> None:
        if source in self.published or target in self.published or target.startswith(f"{OUT}/results/"):
            raise Violation(f"{source} -> {target}: a published name is made, moved or replaced by a rename")
        if source.startswith(f"{OUT}/.claimwork/dead/"):
            dead = source.rpartition("/")[2]
            for kind in ("stage", "work"):
                if self.inode(f"{OUT}/.claimwork/{kind}/{dead}") is not None:
                    raise Violation(f"the grave of {dead} is closed, and its {kind} directory is still there")
        super().rename(source, target)
        if target == f"{OUT}/summary.json":
            if source < self.shown and self._fresh:  # …/showing/<entry>/…: entries are as long as each other
                raise Violation(f"{source} -> {target}: it showed a later generation")
            self.shown = source.rpartition("/")[0]

    def unlink(self, path: str) -> None:
        if path in self.published:
            raise Violation(f"{path}: a published name is removed")
        super().unlink(path)


class Change(NamedTuple):
    """A name that came or went."""

    at: float
    name: str
    came: bool


class Host:
    """A client kernel: its caches, its clocks."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.name = f"host{number}"
        self.broken = False  # each input fails here
        self.away_until = -1.0  # the server does not answer, and the mount is soft
        self.offset = world.rng.uniform(0, 1e5)
        self.skew = world.rng.choice([0.0, 3600.0, -3600.0])
        self.absent: dict[str, dict[str, float]] = {}  # directory -> path -> until when
        self.attributes: dict[str, tuple[tuple[int, int], float]] = {}
        self.listed: dict[str, float] = {}  # when it listed a directory that it has not changed itself since
        self.removed: set[str] = set()  # directories that another client removed, and this one has yet to notice

    def monotonic(self) -> float:
        return self.world.now + self.offset

    def time(self) -> float:
        return 1.7e9 + self.world.now + self.skew

    def sleep(self, seconds: float) -> None:
        self.world.sleep(seconds)

    def forget(self, path: str) -> None:
        """This client changed *path* itself, so its caches know."""
        directory = _parent(path)
        self.absent.get(directory, {}).pop(path, None)
        self.listed.pop(directory, None)
        self.attributes.pop(path, None)
        self.removed.discard(path)

    def is_absent(self, path: str) -> bool:
        """Whether the caches say that there is no *path*."""
        return bool(self.absent) and self.absent.get(_parent(path), {}).get(path, -1.0) > self.world.now

    def remember_absent(self, path: str) -> None:
        """A look-up found nothing, and the next ones are answered from memory."""
        stale_s = self.world.case.profile.stale_s
        if stale_s:
            self.absent.setdefault(_parent(path), {})[path] = self.world.now + stale_s


class SimFs(HookedFs):
    """What one process sees of the server, through the caches of its host, with faults."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world.server)
        self._world = world
        self._process = process
        self._host = process.host
        self._server = world.server

    def _call(self, op: str, function: Callable[..., Any], *args: Any) -> Any:
        process, world = self._process, self._world
        if process.dead:
            raise Died
        mutating = op in MUTATING
        if mutating:
            process.pending = (op, function, args)
        world.switch()
        fault = world.draw_fault(op) if mutating and world.faults_left else None
        if fault is not None:
            world.strike(process, fault, op, function, args)  # raises, kills, or only delays
        if world.now < world.grace_until and op in WAITS_IN_GRACE:
            world.wait_for_grace(process)
        process.pending = None
        try:
            if world.now < self._host.away_until:
                raise world.time_out(op, function, args)
            if process.error:
                code, process.error = process.error, 0
                raise OSError(code, os.strerror(code), *args[:1])
            if mutating:
                result = self._change(op, function, args, answered=fault != "reply")
            else:
                result = self._look(op, function, args)
        except OSError as error:
            raise self._noted(op, args, error) from None
        if world.history is not None:
            world.note(process, op, args, result)
        if fault == "reply":
            code = RETRANSMITTED.get(op, errno.EIO) if world.rng.random() < 0.6 else world.rng.choice(ERRORS)
            raise OSError(code, os.strerror(code), *args[:1])
        if fault == "kill after":
            world.kill(process)
            raise Died
        return result

    def names(self, path: str) -> list[str]:
        """More than half of all calls: nothing here that a listing has no use for."""
        process, world, host = self._process, self._world, self._host
        if process.dead:
            raise Died
        world.switch()
        try:
            if world.now < host.away_until:
                raise world.time_out("names", self._server.names, (path,))
            if host.removed and path in host.removed:
                raise FileNotFoundError(errno.ENOENT, "removed", path)
            result = self._server.names(path)
        except OSError as error:
            raise self._noted("names", (path,), error) from None
        if world.case.profile.coarse_s:
            result = self._as_listed_before(path, result)
        elif host.absent:
            host.absent.pop(path, None)
        if world.history is not None:
            world.note(process, "names", (path,), result)
        return result

    def _as_listed_before(self, path: str, names: list[str]) -> list[str]:
        """The listing, or the cached one: the change attribute of the directory is coarse, so it may seem fresh.

        That lasts for `Profile.coarse_s` after it was made, and until this client changes the directory itself.
        """
        world, host = self._world, self._host
        cached_at = host.listed.get(path, -1.0)
        if path in world.changes and cached_at > world.now - world.case.profile.coarse_s and world.rng.random() < 0.5:
            missed = [each for each in world.changes[path] if each.at > cached_at]
            if missed:
                world.case.kinds["old listing"] += 1
                shown = dict.fromkeys(names)
                for each in reversed(missed):
                    if each.came:
                        shown.pop(each.name, None)
                    else:
                        shown[each.name] = None
                return list(shown)
        host.listed[path] = world.now
        host.absent.pop(path, None)
        return names

    def _look(self, op: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if op in ("flush", "try_lock"):
            return function(*args)
        host, now, path = self._host, self._world.now, args[0]
        if host.absent and host.is_absent(path):
            if op == "inode":
                return None
            raise FileNotFoundError(errno.ENOENT, "stale", path)
        if op == "inode":
            known = host.attributes.get(path)
            if known is not None and known[1] > now:
                return known[0]
            result = function(path)
            if result is None:
                host.remember_absent(path)
            elif self._world.case.profile.stale_s:
                host.attributes[path] = (result, now + self._world.case.profile.stale_s)
            return result
        try:
            return function(*args)
        except FileNotFoundError:
            host.remember_absent(path)
            raise

    def _change(self, op: str, function: Callable[..., Any], args: tuple[Any, ...], *, answered: bool) -> Any:
        host, world = self._host, self._world
        if op == "write_beat":
            return function(*args)
        path = args[0]
        if op in ("link", "rename", "unlink", "rmdir") and host.absent and host.is_absent(path):
            raise FileNotFoundError(errno.ENOENT, "stale", path)
        try:
            result = world.execute(op, function, args, host if answered else None)
        except FileNotFoundError:
            if op in ("unlink", "rmdir"):
                host.remember_absent(path)
            raise
        if answered:
            host.forget(path)
            if op in ("link", "rename"):
                host.forget(args[1])
        return result

    def _noted(self, op: str, args: tuple[Any, ...], error: OSError) -> OSError:
        """The error as this client sees it: of a directory that somebody else removed it may have a handle left."""
        host, world = self._host, self._world
        if host.removed and error.errno == errno.ENOENT:
            for path in [each for each in args if isinstance(each, str)]:
                for directory in (path, _parent(path)):
                    if directory in host.removed:
                        host.removed.discard(directory)  # it asks afresh the next time
                        world.case.kinds["stale handle"] += 1
                        error = OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        if world.history is not None:
            world.note(self._process, op, args, f"! {errno.errorcode.get(error.errno or 0, error)}")
        return error


def changes_of(op: str, args: tuple[Any, ...], at: float) -> list[tuple[str, Change]]:
    """Which names in which directories came or went with a call that succeeded."""
    found = []
    if op in ("rename", "unlink", "rmdir"):
        directory, _, name = args[0].rpartition("/")
        found.append((directory, Change(at, name, came=False)))
    if op not in {"unlink", "rmdir"}:
        directory, _, name = args[1 if op in ("link", "rename") else 0].rpartition("/")
        found.append((directory, Change(at, name, came=True)))
    return found


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
