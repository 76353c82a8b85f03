"""Notes of failed attempts: what a quarantine report, `why` and people learn from them. No decision about truth needs one.

A note is linked to its name once and never changes. Notes are not flushed one by one: after a power loss some may be empty
or gone, so whoever reads them passes over what is no note.
"""

from __future__ import annotations

from . import records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import failure_name, parse_failure
from .records import Failure
from .results import Stage, publish


def note(fs: Fs, layout: Layout, stage: Stage, failure: Failure) -> None:
    """Note a failed attempt. Of two notes of one attempt the first stands."""
    staged = stage.put(records.encode_failure(failure))
    target = f"{layout.failures_of(failure.segment)}/{failure_name(failure.index, failure.attempt)}"
    publish(fs, staged, target, layout.out)
    stage.discard(staged)


def noted(fs: Fs, layout: Layout, segment: int, index: int) -> list[Failure]:
    """The failed attempts at one input (a reduction: index 0 of its plan entry), the first one first."""
    found = []
    for number, name in sorted(_listed(fs, layout, segment)):
        if number[0] == index:
            path = f"{layout.failures_of(segment)}/{name}"
            try:
                found.append(records.parse_failure(fs.read(path, records.SMALL_LIMIT_BYTES), path))
            except (OSError, RecordError):
                continue
    return found


def count_noted(fs: Fs, layout: Layout, segment: int) -> int:
    """How many failed attempts are noted for a segment, or for the reduction of a plan entry."""
    return len(_listed(fs, layout, segment))


def _listed(fs: Fs, layout: Layout, segment: int) -> list[tuple[tuple[int, int], str]]:
    try:
        names = fs.names(layout.failures_of(segment))
    except OSError:
        return []
    return [(number, name) for name in names if (number := parse_failure(name)) is not None]
