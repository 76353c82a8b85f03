"""Parts of a large input: each is computed by whoever claims it, published once, and found by whoever gathers them.

What is here is a help and never the truth: the ticket of the input stands for all of it, and whoever runs it computes what no
part tells. So a part that is lost, or fails, or is published twice costs nothing but time, and nobody waits for it in vain:

    part       ready → held → **link parts/<segment>/<nth>**, a value or an error → dropped
    input      ready, passed over while parts are missing and somebody may bring them → held → gathers → as any other

Once the input is done its parts are removed; a part that comes later finds it done, and goes as well.
"""

from __future__ import annotations

from . import records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import Ticket, parse_number
from .policy import VALUE_LIMIT_BYTES, part_count
from .records import Job, Part
from .results import Stage, publish
from .ticket_store import empty_directory, remove_directory


def known_parts(fs: Fs, layout: Layout, segment: int) -> set[int]:
    """Which parts have a record; one fresh listing."""
    try:
        names = fs.names(layout.parts_of(segment))
    except FileNotFoundError:
        return set()
    return {nth for nth in map(parse_number, names) if nth is not None}


def are_known(fs: Fs, layout: Layout, job: Job, ticket: Ticket) -> bool:
    """Whether every part of the input that *ticket* gathers has a record."""
    return len(known_parts(fs, layout, ticket.segment)) >= part_count(ticket.size_bytes, job.split_bytes)


def publish_part(fs: Fs, layout: Layout, stage: Stage, segment: int, nth: int, part: Part) -> None:
    """Tell what became of a part; the first record stands. Raises Fenced and OSError as `publish` does.

    Nothing is flushed that a network mount does not flush anyway: of a record whose bytes a power loss took, `read_part` says
    that there is none.
    """
    staged = stage.put(records.encode_part(part))
    publish(fs, staged, layout.part(segment, nth), layout.out)
    stage.discard(staged)


def read_part(fs: Fs, layout: Layout, segment: int, nth: int) -> Part | None:
    """The record of a part; None when there is none, or no whole one."""
    path = layout.part(segment, nth)
    try:
        return records.parse_part(fs.read(path, VALUE_LIMIT_BYTES), path)
    except (FileNotFoundError, RecordError):
        return None


def remove_parts(fs: Fs, layout: Layout, segment: int) -> None:
    """Forget the parts of an input that is done. Raises no OSError: what is left is harmless, and `check` removes it."""
    directory = layout.parts_of(segment)
    try:
        empty_directory(fs, directory)
        remove_directory(fs, directory)
    except OSError:
        pass
