"""The planner: lists inputs, weighs them, cuts them into segments and tickets.

Planning is a ticket like any other. For each segment: **append it to the log**, then offer its tickets, whose names follow from
the segment. At the end a close entry ends the generation, and its reduce ticket is offered. A planner that dies leaves a
log that its successor reads: what is planned stays planned, the rest is appended in the same order.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from . import policy
from .claims import ClaimStore
from .fs import Fs, decode_path, encode_path
from .layout import Layout
from .names import Ticket, folded, hashed, map_ticket, mirrored, number_name, part_ticket, reduce_ticket
from .plan_log import PlanLog
from .records import Close, Input, Job, Segment
from .results import Stage

Found = tuple[str, int]  # path below IN, size in bytes


@dataclass
class PlanReport:
    """What planning did: inputs added, and why others were not. ``generation``: the one that it closed; 0: none."""

    added: int = 0
    added_bytes: int = 0
    known: int = 0
    changed: int = 0
    unreadable: int = 0
    generation: int = 0
    took_s: float = 0.0


class Planner:
    """Appends to the plan of one job."""

    def __init__(self, fs: Fs, layout: Layout, job: Job, stage: Stage, store: ClaimStore) -> None:
        self._fs = fs
        self._layout = layout
        self._job = job
        self._stage = stage
        self._store = store
        self._log = PlanLog(fs, layout)
        self._read = 0
        self._known: dict[str, int] = {}
        self._taken: set[str] = set()  # folded result names, on mounts that fold
        self._tickets = 0
        self._open: list[tuple[int, int, int]] = []  # segments since the last close
        self._retried: list[int] = []  # sizes of the inputs in open segments that are planned again
        self._again: set[tuple[int, int]] = set()  # what retried inputs were before
        self._last_close: tuple[int, Close] | None = None

    def plan(self, found: Iterable[Found]) -> PlanReport:
        """Add what is new among *found*, close the generation when there is anything in it, offer its reduction."""
        self._catch_up()
        report = PlanReport(known=len(self._known))
        fresh: list[Found] = []
        for path, size in found:
            planned = self._known.get(path)
            if planned is None:
                fresh.append((path, size))
            elif planned != size:
                report.changed += 1
        fresh.sort(key=lambda each: (-each[1], each[0]))  # one order for all planners of the same IN
        before = self._read
        self._append([Input(path, size) for path, size in fresh])
        report.added, report.added_bytes = len(fresh), sum(size for _, size in fresh)
        if self._read - before and report.known + len(fresh) != len(self._known):
            report.added = len(self._known) - report.known  # another planner was at it as well
        report.generation = self._close()
        return report

    def retry(self, inputs: list[Input]) -> None:
        """Plan quarantined inputs anew; ``of`` says which index each had before."""
        self._catch_up()
        self._append([each for each in inputs if each.of not in self._again])  # somebody else may have been at it
        self._close()

    def _catch_up(self) -> list[Input]:
        fresh: list[Input] = []
        for number, entry in self._log.entries(self._read):
            fresh += self._learn(number, entry)
        return fresh

    def _learn(self, number: int, entry: Segment | Close) -> list[Input]:
        self._read = number + 1
        if isinstance(entry, Close):
            self._last_close, self._open, self._retried = (number, entry), [], []
            return []
        self._tickets += sum(1 for _ in first_tickets(number, entry, self._job))
        self._open.append((number, len(entry.inputs), sum(each.size_bytes for each in entry.inputs)))
        self._retried += [each.size_bytes for each in entry.inputs if each.of is not None]
        self._again.update(each.of for each in entry.inputs if each.of is not None)
        for each in entry.inputs:
            self._known[each.path] = each.size_bytes
            if self._job.folds_names:
                self._taken.add(folded(each.result or mirrored(each.path, self._job.suffix)))
        return entry.inputs

    def _append(self, inputs: list[Input]) -> None:
        total = sum(policy.input_cost(each.size_bytes) for each in inputs)
        done = at = 0
        while at < len(inputs):
            some = self._next_segment(inputs, at)
            cuts = policy.cut_tickets([each.size_bytes for each in some], done, total)
            tickets = [
                (
                    cut.lo,
                    cut.hi,
                    cut.size_bytes,
                    0 if self._is_split(some[cut.lo]) else policy.weight_class(cut.size_bytes),
                    (self._tickets + nth) // policy.SHARD_TICKETS,
                )
                for nth, cut in enumerate(cuts)
            ]
            previous = None if self._last_close is None else self._last_close[0]
            segment = Segment([self._named(each) for each in some], tickets, previous)
            if self._log.append(self._read, segment, self._stage):
                number = self._read
                self._learn(number, segment)
                for ticket in first_tickets(number, segment, self._job):
                    self._store.offer(ticket)
                at += len(some)
                done += sum(policy.input_cost(each.size_bytes) for each in some)
            else:
                # another planner has this entry: what it planned is not to be planned again
                theirs = {(each.path, each.of) for each in self._catch_up()}
                inputs = [each for each in inputs[at:] if (each.path, each.of) not in theirs]
                at = 0

    def _next_segment(self, inputs: list[Input], at: int) -> list[Input]:
        """The inputs of the next segment, from *at* on; one that is split has a segment for itself."""
        if self._is_split(inputs[at]):
            return inputs[at : at + 1]
        some = inputs[at : at + policy.SEGMENT_INPUTS]
        return some[: next((nth for nth, each in enumerate(some) if self._is_split(each)), len(some))]

    def _is_split(self, each: Input) -> bool:
        return policy.is_split(each.size_bytes, self._job.split_bytes)

    def _named(self, each: Input) -> Input:
        if not self._job.folds_names or each.of is not None:
            return each
        name = folded(mirrored(each.path, self._job.suffix))
        if name not in self._taken:
            self._taken.add(name)
            return each
        return replace(each, result=hashed(each.path, self._job.suffix))

    def _close(self) -> int:
        """Close what is open; the generation that I closed, or 0 when there was nothing or another planner did."""
        closed = 0
        while self._open or self._last_close is None:
            previous = None if self._last_close is None else self._last_close[0]
            generation = 1 if self._last_close is None else self._last_close[1].generation + 1
            close = Close(generation, previous, list(self._open), len(self._retried), sum(self._retried))
            if self._log.append(self._read, close, self._stage):
                self._learn(self._read, close)
                closed = generation
            else:
                self._catch_up()
        assert self._last_close is not None
        number = self._last_close[0]
        if number_name(number) not in self._fs.names(self._layout.summaries):
            self._store.offer(reduce_ticket(number))
        return closed


def first_tickets(number: int, segment: Segment, job: Job) -> Iterator[Ticket]:
    """The tickets that a segment starts with; those of parts before the one that gathers them."""
    for lo, hi, size, weight, shard in segment.tickets:
        ticket = map_ticket(shard, weight, number, lo, hi, size)
        if ticket.gathers and job.split_bytes is not None:
            for nth in range(policy.part_count(size, job.split_bytes)):
                start, stop = policy.part_bounds(nth, size, job.split_bytes)
                where = shard + (nth + 1) // policy.SHARD_TICKETS
                yield part_ticket(where, policy.weight_class(stop - start), number, nth, stop - start)
        yield ticket


def list_inputs(root: str, job: Job, on_unreadable: Callable[[str], None]) -> Iterator[Found]:
    """Every regular file below *root* that the job's globs admit: paths relative to it, and sizes.

    Links are not followed; FIFOs, sockets and devices are passed over; a directory that cannot be read, or vanishes while
    it is read, is told to *on_unreadable* and passed over. Raises OSError when *root* itself cannot be read.
    """
    includes = _matchers(job.include)
    excludes = _matchers(job.exclude)
    pending = [b""]
    top = encode_path(root.rstrip("/") or "/")
    while pending:
        below = pending.pop()
        directory = top + b"/" + below if below else top
        try:
            with os.scandir(directory) as entries:
                listed = list(entries)
        except OSError as error:
            if not below:
                raise
            on_unreadable(f"{decode_path(directory)!r}: {error.strerror}")
            continue
        for entry in listed:
            if entry.name.startswith(b".") and not job.hidden:
                continue
            path = below + b"/" + entry.name if below else entry.name
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone since the listing
            if stat.S_ISDIR(found.st_mode):
                if job.recurse and not _matches(excludes, decode_path(path)):
                    pending.append(path)
            elif stat.S_ISREG(found.st_mode):
                name = decode_path(path)
                if (not includes or _matches(includes, name)) and not _matches(excludes, name):
                    yield name, found.st_size


def _matchers(globs: list[str]) -> list[tuple[re.Pattern[str], bool]]:
    return [(re.compile(fnmatch.translate(glob)), "/" in glob) for glob in globs]


def _matches(matchers: list[tuple[re.Pattern[str], bool]], path: str) -> bool:
    # a glob without a slash means the file's own name, as in most tools
    base = path.rpartition("/")[2]
    return any(matcher.match(path if whole else base) is not None for matcher, whole in matchers)
