"""A disk that loses power: it remembers what was flushed, and drops what was not.

What survives follows from `PosixFs.flush`: an fsync of each path and of the directories that hold their names, or one syncfs
for many. Two models of what lies between:

- ``ordered``: a journal, as ext4 and XFS have. Names change in order, and what survives is all that happened before some
  moment after the last flush of anything. The content of a file that was not flushed itself is torn.
- ``independent``: a change that no fsync of its directory covers is there or not, whatever came before or after, but for
  earlier changes of the same name. A rename is still one change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from claimwork.fs import Beat
from claimwork.memory_fs import _Directory, _File
from tests.simulation.simulator import Server

SYNCFS_FROM = 4  # as in claimwork.fs

Node = _Directory | _File | None
Change = tuple[_Directory, str, Node, Node]  # directory, name, before, after


class Disk(Server):
    """A local disk. ``steps``: every change of names in order, as groups that one call makes."""

    def __init__(self, rng: Random, *, syncfs: bool) -> None:
        super().__init__(rng)
        self.kind = "ext4"
        self.steps: list[list[Change]] = []
        self._syncfs = syncfs
        self._journaled = 0  # steps that any flush has made durable where there is a journal
        self._synced = 0  # steps that a syncfs has made durable
        self._synced_in: dict[_Directory, int] = {}  # steps that an fsync of one directory has
        self._flushed: dict[_File, bytes] = {}
        self._files: set[_File] = set()

    # -- power ----------------------------------------------------------------------------------------------------

    def lose_power(self, model: str, share: float, keep: Callable[[bytes], bytes], rng: Random) -> None:
        """Drop what was not flushed. *share* of the unflushed changes of names survives; *keep* tears file contents."""
        if model == "ordered":
            survive = self._journaled + round((len(self.steps) - self._journaled) * share)
            for step in reversed(self.steps[survive:]):
                for change in reversed(step):
                    self._undo(change)
        else:
            self._lose_independently(share, rng)
        for file in self._files:
            file.locked = False
            if self._flushed.get(file) != file.data:
                file.data = keep(file.data)
        self._walked.clear()
        self.steps.clear()
        self._journaled = self._synced = 0
        self._synced_in.clear()

    def _lose_independently(self, share: float, rng: Random) -> None:
        kept = []
        lost: set[tuple[_Directory, str]] = set()
        for number, step in enumerate(self.steps):
            names = {change[:2] for change in step}
            is_synced = any(number < max(self._synced, self._synced_in.get(directory, 0)) for directory, _ in names)
            if is_synced or (rng.random() < share and not names & lost):
                kept.append(step)
            else:
                lost |= names
        for step in reversed(self.steps):
            for change in reversed(step):
                self._undo(change)
        for step in kept:
            for directory, name, _, after in step:
                _put(directory, name, after)

    @staticmethod
    def _undo(change: Change) -> None:
        directory, name, before, _ = change
        _put(directory, name, before)

    # -- what makes durable ---------------------------------------------------------------------------------------

    def flush(self, paths: Iterable[str]) -> None:
        wanted = list(paths)
        if not wanted:
            return
        if self._syncfs and len(wanted) >= SYNCFS_FROM:
            self._synced = self._journaled = len(self.steps)
            self._flushed.update({file: file.data for file in self._files})
            return
        for path in [*wanted, *{path.rpartition("/")[0] for path in wanted}]:
            self._fsync(path)

    def seal(self, path: str, keep_bytes: int) -> tuple[int, str, bytes | None]:
        self._fsync(path)
        return super().seal(path, keep_bytes)

    def _fsync(self, path: str) -> None:
        node = self._node(path)
        self._journaled = len(self.steps)
        if isinstance(node, _Directory):
            self._synced_in[node] = len(self.steps)
        else:
            self._flushed[node] = node.data

    # -- what does not --------------------------------------------------------------------------------------------

    def mkdir(self, path: str) -> None:
        self._noting([path], lambda: super(Disk, self).mkdir(path))

    def stage(self, path: str, data: bytes) -> None:
        self._noting([path], lambda: super(Disk, self).stage(path, data))

    def link(self, source: str, target: str) -> None:
        self._noting([target], lambda: super(Disk, self).link(source, target))

    def rename(self, source: str, target: str) -> None:
        self._noting([source, target], lambda: super(Disk, self).rename(source, target))

    def unlink(self, path: str) -> None:
        self._noting([path], lambda: super(Disk, self).unlink(path))

    def rmdir(self, path: str) -> None:
        self._noting([path], lambda: super(Disk, self).rmdir(path))

    def open_beat(self, path: str, data: bytes) -> Beat:
        beat: Beat = self._noting([path], lambda: super(Disk, self).open_beat(path, data))
        return beat

    def _noting(self, paths: list[str], call: Callable[[], Any]) -> Any:
        """Make a call, and remember what it did to the names at *paths* as one step."""
        before = [self._at(path) for path in paths]
        result = call()
        after = [self._at(path) for path in paths]
        step: list[Change] = [
            (directory, name, old, new)
            for (directory, name, old), (_, _, new) in zip(before, after, strict=True)
            if directory is not None and old is not new
        ]
        if step:
            self.steps.append(step)
        self._files.update(new for _, _, new in after if isinstance(new, _File))
        return result

    def _at(self, path: str) -> tuple[_Directory | None, str, Node]:
        try:
            directory, name = self._parent(path)
        except OSError:
            return None, "", None
        return directory, name, directory.entries.get(name)


def _put(directory: _Directory, name: str, node: Node) -> None:
    if node is None:
        directory.entries.pop(name, None)
    else:
        directory.entries[name] = node
