"""What the looks share: a finding, what mends it, and careful ways to ask the mount.

Absence is never concluded from one look-up: a name asked for too early stays absent in a cache, so the directory is
listed afresh first. What is no plain file is never opened further and never followed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from claimwork.errors import RecordError
from claimwork.fs import Fs
from claimwork.layout import Layout
from claimwork.names import parse_range
from claimwork.repair import Repairer

Mend = Callable[[Repairer], None]
Content = tuple[int, str, bytes | None]  # size, digest, and the bytes when they were asked for


@dataclass(frozen=True)
class Finding:
    """Something that should not be. ``repair`` says what ``--repair`` does; None: ``what`` says what a person does.

    ``harmless`` ones only take up space: a job that has no others is clean.
    """

    code: str
    path: str
    what: str
    repair: str | None
    harmless: bool = False


@dataclass(frozen=True)
class Suspicion:
    """A finding until the second look, and the step that mends it."""

    finding: Finding
    mend: Mend | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What must be the same at the second look."""
        return self.finding.code, self.finding.path


class Disk:
    """One OUT, asked carefully; keeps the notes."""

    def __init__(self, fs: Fs, layout: Layout) -> None:
        self.fs = fs
        self.layout = layout
        self._notes: dict[str, str] = {}

    def note(self, path: str, what: str) -> None:
        """Remember something that needs no action."""
        self._notes[path] = what

    def notes(self) -> list[Suspicion]:
        """All notes, by path."""
        return [Suspicion(Finding("note", path, what, None)) for path, what in sorted(self._notes.items())]

    def names(self, path: str) -> list[str]:
        """Names in a directory; none when it is not there."""
        try:
            return self.fs.names(path)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def file(self, path: str, keep_bytes: int) -> Content | None:
        """Size, digest, content; None when there is nothing. RecordError for anything but a plain file."""
        try:
            return self.fs.digest(path, keep_bytes)
        except (FileNotFoundError, NotADirectoryError):
            if not self._is_listed(path):
                return None
        try:
            return self.fs.digest(path, keep_bytes)
        except FileNotFoundError:
            return None  # gone since

    def record(self, path: str, limit_bytes: int) -> bytes | None:
        """A whole record; None when there is nothing."""
        try:
            return self.fs.read(path, limit_bytes)
        except (FileNotFoundError, NotADirectoryError):
            if not self._is_listed(path):
                return None
        try:
            return self.fs.read(path, limit_bytes)
        except FileNotFoundError:
            return None

    def _is_listed(self, path: str) -> bool:
        parent, _, name = path.rpartition("/")
        return name in self.names(parent)

    def is_linked(self, path: str) -> bool:
        """True for a symbolic link to a directory: asked with a dot behind, the kernel follows it."""
        try:
            inside = self.fs.inode(f"{path}/.")
        except OSError:
            return False
        return inside is not None and inside != self.fs.inode(path)

    def done_ranges(self, segment: int) -> list[tuple[int, int]]:
        """Ranges for which there is a done record by name."""
        return [found for name in self.names(self.layout.done_of(segment)) if (found := parse_range(name)) is not None]

    def missing_directories(self) -> list[Suspicion]:
        """Directories that every job has: a copy that leaves out empty ones loses them."""
        found = []
        for path in self.layout.directories():
            parent, _, name = path.rpartition("/")
            if name not in self.names(parent):
                what = "a directory that every job has is gone"
                finding = Finding("directory-missing", path, what, "it is made again")
                found.append(Suspicion(finding, _maker(path)))
        return found


def _maker(path: str) -> Mend:
    return lambda repairer: repairer.fs.mkdir(path)


def gaps(count: int, covered: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of ``range(count)`` no range covers."""
    found, at = [], 0
    for lo, hi in sorted(covered):
        if lo > at:
            found.append((at, min(lo, count)))
        at = max(at, hi)
        if at >= count:
            return found
    return [*found, (at, count)]


def in_words(error: Exception) -> str:
    """An error for a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def why_not(error: Exception) -> str:
    """Why a record cannot be used, without the path that the finding names already."""
    if isinstance(error, RecordError):
        return str(error).rpartition("' ")[2] or str(error)
    return f"cannot be read: {in_words(error)}"
