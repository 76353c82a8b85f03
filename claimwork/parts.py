"""Parts of a large input: each is computed by whoever claims it, published once, and found by whoever gathers them.

What is here is a help and never the truth: the ticket of the input stands for all of it, and whoever runs it computes what no
part tells. So a part that is lost, or fails, or is published twice costs nothing but time, and nobody waits for it in vain:

    part       ready → held → **link parts/<segment>/<nth>**, or <nth>.failed → dropped
    input      ready, passed over while parts are missing and somebody may bring them → held → gathers → as any other

Once the input is done its parts are removed; a part that comes later finds it done, and goes as well.
"""

from __future__ import annotations

from typing import NamedTuple

from . import records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import Ticket, parse_part_name
from .policy import VALUE_LIMIT_BYTES, part_count
from .records import Job, Part
from .results import Stage, publish
from .ticket_store import empty_directory, remove_directory


class Known(NamedTuple):
    """Which parts have a value, and which somebody could not compute."""

    values: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()


def known_parts(fs: Fs, layout: Layout, segment: int) -> Known:
    """What became of the parts of an input so far; one fresh listing."""
    try:
        names = fs.names(layout.parts_of(segment))
    except FileNotFoundError:
        return Known()
    found = [part for part in map(parse_part_name, names) if part is not None]
    return Known(
        frozenset(nth for nth, failed in found if not failed), frozenset(nth for nth, failed in found if failed)
    )


def are_known(fs: Fs, layout: Layout, job: Job, ticket: Ticket) -> bool:
    """Whether every part of the input that *ticket* gathers has a record."""
    values, failed = known_parts(fs, layout, ticket.segment)
    return len(values | failed) >= part_count(ticket.size_bytes, job.split_bytes)


def publish_part(fs: Fs, layout: Layout, stage: Stage, segment: int, nth: int, part: Part) -> None:
    """Tell what became of a part; of two values the first stands, and a value stands above an error.

    Raises Fenced and OSError as `publish` does. Nothing is flushed that a network mount does not flush anyway: of a record whose
    bytes a power loss took, `read_part` says that there is none.
    """
    staged = stage.put(records.encode_part(part))
    publish(fs, staged, layout.part(segment, nth, failed=bool(part.error)), layout.out)
    stage.discard(staged)


def read_part(fs: Fs, layout: Layout, segment: int, nth: int) -> Part | None:
    """The record of a part that has a value; None when there is none, or no whole one."""
    path = layout.part(segment, nth)
    try:
        part = records.parse_part(fs.read(path, VALUE_LIMIT_BYTES), path)
    except (FileNotFoundError, RecordError):
        return None
    return None if part.error else part


def remove_parts(fs: Fs, layout: Layout, segment: int) -> None:
    """Forget the parts of an input that is done. Raises no OSError: what is left is harmless, and `check` removes it."""
    directory = layout.parts_of(segment)
    try:
        empty_directory(fs, directory)
        remove_directory(fs, directory)
    except OSError:
        pass
