"""What a child does with a large input: one of its parts, or all that is missing of them and then the whole.

Errors of the task pass through as they are; what goes wrong on OUT is raised as WorkerFault or Fenced, so that nobody takes
it for a failure of the input.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol

from . import records
from .errors import mount_fault
from .fs import Fs, encode_path
from .layout import Layout
from .parts import known_parts, publish_part, read_part
from .policy import is_split, part_bounds, part_count
from .records import Input, Job, Part
from .results import Stage
from .tasks import Attempt, Runner


class Stopped(Exception):
    """The worker wants its child back: what was computed so far is published, and the rest is for another time."""


class Progress(Protocol):
    """Shared between a child and its worker without messages."""

    def loaded(self) -> None:
        """The child has loaded the task: only from now on may an input be what ends it."""

    def begin(self, index: int) -> None:
        """The child starts input *index* now."""

    def end(self) -> None:
        """The child is at no input: publishing, or done."""

    def counted(self, count: int) -> None:
        """So many inputs are listed, or results read: what a plan or a reduction shows of itself."""

    def stops_at(self) -> int:
        """The index before which the worker wants the child to stop."""

    def is_set(self) -> bool:
        """True once the worker has lost its claims."""


class Splitter:
    """Computes parts and gathers them. *progress* is asked before each part whether to go on."""

    def __init__(
        self, fs: Fs, layout: Layout, job: Job, stage: Stage, input_dir: str, runner: Runner, progress: Progress
    ) -> None:
        self._fs = fs
        self._layout = layout
        self._job = job
        self._stage = stage
        self._input_dir = input_dir
        self._runner = runner
        self._progress = progress

    def splits(self, each: Input) -> bool:
        """Whether an input is processed in parts."""
        return is_split(each.size_bytes, self._job.split_bytes)

    def bounds(self, each: Input, nth: int) -> tuple[int, int]:
        """The bytes of part *nth* of an input, from and to (exclusive)."""
        return part_bounds(nth, each.size_bytes, self._job.split_bytes or each.size_bytes)

    def compute(self, each: Input, nth: int, number: int) -> Any:
        """The value of part *nth* at attempt *number*, as JSON gives it back. Raises whatever the task does."""
        path = os.fsdecode(encode_path(f"{self._input_dir}/{each.path}"))
        start, stop = self.bounds(each, nth)
        attempt = Attempt(number, each.path, each.size_bytes, self._progress, start, stop)
        try:
            return records.loads(records.dumps(self._runner.value(path, attempt)), "a value")
        finally:
            attempt.cleanup()

    def publish(self, segment: int, nth: int, part: Part) -> None:
        """Tell what became of a part."""
        try:
            publish_part(self._fs, self._layout, self._stage, segment, nth, part)
        except OSError as error:
            raise mount_fault(error, self._layout.out) from error

    def gather(self, segment: int, index: int, each: Input, number: int, began_at: float) -> tuple[bytes, int, float]:
        """The result of a whole input, how many of its bytes were computed here, since no part told of them, and when the
        first part was begun; *began_at* is now.

        Raises Stopped when told to stop before all parts are known.
        """
        count = part_count(each.size_bytes, self._job.split_bytes)
        known = known_parts(self._fs, self._layout, segment).values
        here: dict[int, Any] = {}
        computed, first_at = 0, began_at
        for nth in range(count):
            self._progress.begin(index)  # a limit of time is one for each part, be it computed or read
            part = self._read(segment, nth) if nth in known else None
            if part is not None:
                first_at = min(first_at, part.began_at) if part.began_at > 0 else first_at
                continue
            if self._progress.stops_at() <= index:
                raise Stopped
            here[nth] = self.compute(each, nth, number)
            start, stop = self.bounds(each, nth)
            computed += stop - start
            if nth not in known:
                self.publish(segment, nth, Part(here[nth], began_at=began_at))
        broken: list[Exception] = []

        def values() -> Iterator[Any]:
            for nth in range(count):
                try:
                    value = here[nth] if nth in here else self._known(segment, nth)
                except Exception as error:
                    broken.append(error)
                    raise
                self._progress.begin(index)  # nor is it for all that the mount takes to tell
                yield value

        self._progress.begin(index)
        try:
            return self._runner.merged(values()), computed, first_at
        finally:
            if broken:  # whatever the merge made of it: values are missing, and that is no failure of the input
                raise broken[0]

    def _known(self, segment: int, nth: int) -> Any:
        part = self._read(segment, nth)
        if part is None:  # somebody has finished the input, and removed its parts
            raise Stopped
        return part.value

    def _read(self, segment: int, nth: int) -> Part | None:
        try:
            return read_part(self._fs, self._layout, segment, nth)
        except OSError as error:
            raise mount_fault(error, self._layout.out) from error
