"""The plan: a gapless numbered log of segments, and of closes that end a generation.

Entry n is the file plan/<n>, published by link. Appending is compare-and-swap: whoever links entry n first has it, the other
reads that entry, takes what it says into account, and tries n + 1. So two planners never plan an input twice, and
the entries before a close are exactly what its generation covers.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import numbers_among
from .records import Close, Segment
from .results import Stage, publish


class PlanLog:
    """Reading and appending; remembers the closes it has seen, never the inputs."""

    def __init__(self, fs: Fs, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout
        self._closes: list[tuple[int, Close]] = []

    def length(self) -> int:
        """Number of entries, by a fresh listing. The log has no gaps, so its highest number tells."""
        return 1 + max(numbers_among(self._fs.names(self._layout.plan)), default=-1)

    def read(self, number: int) -> Segment | Close:
        """Entry *number*. Raises RecordError when it is damaged, FileNotFoundError when there is none."""
        path = self._layout.segment(number)
        try:
            data = self._fs.read(path, records.SEGMENT_LIMIT_BYTES)
        except FileNotFoundError:
            self._fs.names(self._layout.plan)  # cures a stale look-up
            data = self._fs.read(path, records.SEGMENT_LIMIT_BYTES)
        return records.parse_entry(data, path)

    def segment(self, number: int) -> Segment:
        """Entry *number*, which must hold inputs."""
        entry = self.read(number)
        if not isinstance(entry, Segment):
            raise RecordError(f"{self._layout.segment(number)!r} holds no inputs")
        return entry

    def entries(self, start: int = 0) -> Iterator[tuple[int, Segment | Close]]:
        """All entries from *start* on, in order."""
        for number in range(start, self.length()):
            yield number, self.read(number)

    def append(self, number: int, entry: Segment | Close, stage: Stage) -> bool:
        """Publish *entry* as *number*: **the link** decides. False when another planner has that number."""
        encode = records.encode_close(entry) if isinstance(entry, Close) else records.encode_segment(entry)
        staged = stage.put(encode)
        stage.flush(staged)
        won = publish(self._fs, staged, self._layout.segment(number), self._layout.out)
        # done records speak of it by number: after a power loss it must not come out otherwise
        self._fs.flush([self._layout.segment(number)])
        stage.discard(staged)
        return won

    def last_known(self) -> tuple[int, Close] | None:
        """The last close seen so far; nothing is read."""
        return self._closes[-1] if self._closes else None

    def closes_until(self, number: int) -> list[tuple[int, Close]]:
        """All closes up to the one that is entry *number*, oldest first; none when it is no close. What is known is not read."""
        if all(known != number for known, _ in self._closes):
            self.closes()
        until = [close for close in self._closes if close[0] <= number]
        return until if until and until[-1][0] == number else []

    def closes(self) -> tuple[list[tuple[int, Close]], bool]:
        """All closes with their numbers, oldest first, and whether the log ends with one (no planning under way).

        Reads the last entry and what is new before it, by the links from each close to the one before.
        """
        length = self.length()
        if length == 0:
            return [], False
        known = self._closes[-1][0] if self._closes else -1
        if known == length - 1:
            return self._closes, True
        last = self.read(length - 1)
        fresh: list[tuple[int, Close]] = []
        number = length - 1 if isinstance(last, Close) else last.previous
        while number is not None and number > known:
            entry = last if number == length - 1 else self.read(number)
            if not isinstance(entry, Close):
                raise RecordError(f"{self._layout.segment(number)!r} should end a generation and does not")
            fresh.append((number, entry))
            number = entry.previous
        self._closes += reversed(fresh)
        return self._closes, isinstance(last, Close)
