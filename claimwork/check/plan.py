"""The plan as the check sees it: the numbered log from its first entry on, and where each input's outcome belongs.

The log has no gaps; each close points to the close before and lists the segments since; each input is planned once, or
again as a retry that says which index it had before. Nothing of this can be mended: what an entry said is known to
nobody else, so a finding here names the file to restore.
"""

from __future__ import annotations

from claimwork import records
from claimwork.errors import RecordError
from claimwork.fs import encode_path
from claimwork.names import mirrored, parse_number
from claimwork.records import Close, Input, Job, Segment

from .disk import Disk, Finding, Suspicion, why_not

_RESTORE = "restore it from a copy; without one, start over in another OUT: the results stay as they are"


class Names:
    """Where outcomes belong below one directory: names of files, and of the directories above them."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.directories: set[str] = set()

    def add(self, name: str, place: int) -> None:
        """Say that *name* is the outcome of the input at *place*."""
        self.places[name] = place
        parent = name.rpartition("/")[0]
        while parent and parent not in self.directories:
            self.directories.add(parent)
            parent = parent.rpartition("/")[0]


class Plan:
    """What the log says so far; `learn` reads on. ``states`` is filled by `outcomes`: one byte for each input."""

    def __init__(self, disk: Disk, job: Job) -> None:
        self.segments: dict[int, int] = {}
        self.closes: dict[int, Close] = {}
        self.length = 0
        self.broken: set[int] = set()
        self.is_whole = True
        self.replaced: dict[tuple[int, int], tuple[int, int]] = {}
        self.states: dict[int, bytearray] = {}
        self.results = Names()
        self.reports = self.results if job.suffix == ".json" else Names()
        self._disk = disk
        self._job = job
        self._since: list[tuple[int, int, int]] = []
        self._retried = 0
        self._last_close: int | None = None
        self._in_doubt = False  # an entry since the last close is unknown: it may have been one

    def learn(self) -> list[Suspicion]:
        """Read the entries that are new."""
        found: list[Suspicion] = []
        numbers = []
        for name in self._disk.names(self._disk.layout.plan):
            number = parse_number(name)
            if number is None:
                self._disk.note(f"{self._disk.layout.plan}/{name}", "is no entry of the plan; it is left alone")
            elif number >= self.length:
                numbers.append(number)
        for number in sorted(numbers):
            if number > self.length:
                found.append(self._gap(number))
            self.length = number + 1
            path = self._disk.layout.segment(number)
            try:
                entry = self.entry(number)
            except (OSError, RecordError) as error:
                found.append(_refused("plan-damaged", path, f"{why_not(error)}; {_RESTORE}"))
                self.broken.add(number)
                self._doubt()
                continue
            problems = self._close(number, entry) if isinstance(entry, Close) else self._segment(number, entry)
            found += [_refused("plan-wrong", path, f"{what}; {_RESTORE}") for what in problems]
        return found

    def entry(self, number: int) -> Segment | Close:
        """Entry *number*, read from the disk. Raises RecordError when it is none, OSError when it cannot be read."""
        path = self._disk.layout.segment(number)
        data = self._disk.record(path, records.SEGMENT_LIMIT_BYTES)
        if data is None:
            raise RecordError(f"{path!r} is gone")
        entry = records.parse_entry(data, path)
        if isinstance(entry, Segment):
            try:
                for each in entry.inputs:
                    encode_path(each.path)
                    encode_path(each.result or "")
            except UnicodeEncodeError:
                raise RecordError(f"{path!r} has a name that no filesystem can have") from None
        return entry

    def state(self, segment: int, index: int) -> int:
        """The byte that `outcomes` left for an input; 0 when it has not looked at it."""
        states = self.states.get(segment, b"")
        return states[index] if index < len(states) else 0

    def last_close(self) -> int | None:
        """Number of the last close."""
        return self._last_close

    def has_ended(self) -> bool:
        """Whether the log ends with a close: no planning is under way."""
        return self.length > 0 and self._last_close == self.length - 1

    def result_of(self, each: Input) -> str:
        """Name of an input's result below results/."""
        return each.result or mirrored(each.path, self._job.suffix)

    def report_of(self, each: Input) -> str:
        """Name of an input's report below quarantine/."""
        return each.result or mirrored(each.path, ".json")

    def _gap(self, number: int) -> Suspicion:
        self._doubt()
        missing = number - self.length
        what = (
            f"entry {self.length} of the plan is missing"
            if missing == 1
            else f"{missing} entries of the plan are missing from here on"
        )
        self.broken.update(range(self.length, min(number, self.length + 4096)))
        return _refused("plan-gap", self._disk.layout.segment(self.length), f"{what}; {_RESTORE}")

    def _doubt(self) -> None:
        self.is_whole = False
        self._in_doubt = True

    def _segment(self, number: int, segment: Segment) -> list[str]:
        problems = (
            [] if self._in_doubt or segment.previous == self._last_close else ["it names another close before it"]
        )
        at = 0
        for lo, hi, *_ in sorted(segment.tickets):
            if lo != at:
                break
            at = hi
        if at != len(segment.inputs):
            problems.append("its tickets do not cover its inputs, each once")
        for index, each in enumerate(segment.inputs):
            problem = self._input(number, index, each)
            if problem is not None:
                problems.append(problem)
        self.segments[number] = len(segment.inputs)
        self._since.append((number, len(segment.inputs), sum(each.size_bytes for each in segment.inputs)))
        self._retried += sum(each.of is not None for each in segment.inputs)
        return problems

    def _input(self, number: int, index: int, each: Input) -> str | None:
        name = self.result_of(each)
        before = self.results.places.get(name)
        problem = None
        if before is not None:
            where = before >> 32, before & 0xFFFFFFFF
            if each.of == where:
                self.replaced[where] = (number, index)
            else:
                problem = f"input {each.path!r} was planned before, as {where[1]} of segment {where[0]}"
        elif each.of is not None and self.is_whole:
            problem = f"input {each.path!r} is a retry of one that was never planned"
        place = number << 32 | index
        self.results.add(name, place)
        if self.reports is not self.results:
            self.reports.add(self.report_of(each), place)
        return problem

    def _close(self, number: int, close: Close) -> list[str]:
        problems = []
        if not self._in_doubt:
            if close.previous != self._last_close:
                problems.append("it names another close before it")
            if close.generation != len(self.closes) + 1 and self.is_whole:
                problems.append(f"it is generation {len(self.closes) + 1} and says {close.generation}")
            if close.segments != self._since or close.retried != self._retried:
                problems.append("it does not list the segments since the close before")
        self.closes[number] = close
        self._last_close, self._since, self._retried, self._in_doubt = number, [], 0, False
        return problems


def _refused(code: str, path: str, what: str) -> Suspicion:
    return Suspicion(Finding(code, path, what, None))
