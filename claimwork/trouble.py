"""Trouble: what failed, grouped by cause, from quarantine reports and from the last attempts of what waits to be run again.

A look lists and reads a bounded number of directories and files, remembers what it read, and goes on there at the next look.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from . import records
from .errors import RecordError
from .fs import Fs
from .layout import Layout
from .names import Kind, Ticket, failure_name
from .records import Failure, Job

_LISTINGS = 64  # directories of quarantine/ for one look
_READS = 64  # reports and notes for one look
_GROUPS = 8
_DETAIL = 2000  # characters of a log
_NAMED = 3  # inputs that a group names, and that its command can retry by name


@dataclass(frozen=True, slots=True)
class Trouble:
    """Inputs with one cause. ``state``: quarantined, or backing off. ``command`` brings quarantined ones back; ``detail`` is
    the end of the log of the first of them.
    """

    state: str
    count: int
    kind: str
    error: str
    inputs: tuple[str, ...]
    command: str = ""
    detail: str = ""

    @property
    def sample(self) -> str:
        """One of the inputs."""
        return self.inputs[0]


@dataclass(frozen=True, slots=True)
class Troubles:
    """The groups, the number of reports that stand, and whether all of quarantine/ was looked at."""

    quarantined: int = 0
    groups: tuple[Trouble, ...] = ()
    unread: int = 0
    exact: bool = True


class TroubleReader:
    """Remembers what it listed and read."""

    def __init__(self, fs: Fs, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout
        self._listed: dict[str, list[str]] = {}
        self._turn: list[str] = []
        self._reports: dict[str, Failure | None] = {}
        self._notes: dict[str, Failure | None] = {}
        self._generation = -1
        self._reads = 0

    def look(self, job: Job, generation: int, waiting: Iterable[str], delayed: Iterable[Ticket]) -> Troubles:
        """Look once. Reports at *waiting* belong to inputs that were planned again; *delayed* tickets back off."""
        if generation != self._generation:  # what was retried may have a new report in place of the old one
            self._generation = generation
            self._reports.clear()
        self._reads = _READS
        exact = self._list()
        passed_over = set(waiting)
        reports = sorted(
            path
            for directory, names in self._listed.items()
            for name in names
            if name.endswith(".json") and (path := f"{directory}/{name}") not in passed_over
        )
        self._reports = {path: self._reports[path] for path in reports if path in self._reports}
        for path in reports:
            if path not in self._reports and self._may_read():
                self._reports[path] = self._report(path, job)
        failed = [each for each in self._reports.values() if each is not None]
        groups = [
            *_grouped("quarantined", failed, self._layout.out),
            *_grouped("backing off", self._backing_off(delayed)),
        ]
        unread = len(reports) - len(self._reports)
        return Troubles(len(reports), tuple(groups), unread, exact)

    def _list(self) -> bool:
        """List some directories; True when each known one was, and nothing new came up."""
        if not self._turn:
            self._turn = [self._layout.quarantine]
            self._seen: set[str] = set()
        for _ in range(_LISTINGS):
            if not self._turn:
                break
            directory = self._turn.pop()
            self._seen.add(directory)
            try:
                names = self._fs.names(directory)
            except OSError:
                self._listed.pop(directory, None)
                continue
            self._listed[directory] = names
            self._turn += [f"{directory}/{name}" for name in names if not name.endswith(".json")]
        if self._turn:
            return False
        for gone in self._listed.keys() - self._seen:
            del self._listed[gone]
        return True

    def _may_read(self) -> bool:
        self._reads -= 1
        return self._reads >= 0

    def _report(self, path: str, job: Job) -> Failure | None:
        try:
            report = records.parse_quarantine(self._fs.read(path, records.SMALL_LIMIT_BYTES), path, job.id)
        except (OSError, RecordError):
            return None
        return report[-1] if report else None

    def _backing_off(self, delayed: Iterable[Ticket]) -> list[Failure]:
        """The last attempt of each ticket that waits for the next one."""
        found: dict[str, Failure | None] = {}
        for ticket in delayed:
            if ticket.kind is not Kind.MAP or ticket.count != 1 or ticket.attempt < 2:
                continue
            path = f"{self._layout.failures_of(ticket.segment)}/{failure_name(ticket.lo, ticket.attempt - 1)}"
            if path not in self._notes and self._may_read():
                try:
                    self._notes[path] = records.parse_failure(self._fs.read(path, records.SMALL_LIMIT_BYTES), path)
                except (OSError, RecordError):
                    self._notes[path] = None
            found[path] = self._notes.get(path)
        self._notes = dict(found)
        return [each for each in found.values() if each is not None]


def cause(failure: Failure) -> str:
    """What failures of one cause have in common: the words without the input's name and without numbers."""
    words = failure.error.replace(failure.input, "…").replace(os.path.basename(failure.input) or "…", "…")
    return f"{failure.kind}: {re.sub('[0-9]+', '#', words)}"


def _grouped(state: str, failures: list[Failure], out: str = "") -> list[Trouble]:
    groups: dict[str, list[Failure]] = {}
    for each in failures:
        groups.setdefault(cause(each), []).append(each)
    largest = sorted(groups.values(), key=len, reverse=True)[:_GROUPS]
    return [
        Trouble(
            state,
            len(group),
            group[0].kind,
            group[0].error,
            tuple(each.input for each in group[:_NAMED]),
            retry_command(out, [each.input for each in group]) if out and len(group) <= _NAMED else "",
            group[0].detail[-_DETAIL:],
        )
        for group in largest
    ]


def retry_command(out: str, inputs: list[str]) -> str:
    """What to type to bring inputs back to ready; all quarantined ones without *inputs*, or when one cannot be typed."""
    if not all(each.isprintable() for each in inputs) or any(set(each) & set("*?[") for each in inputs):
        inputs = []
    dashes = ["--"] if any(each.startswith("-") for each in inputs) else []
    return shlex.join(["claimwork", "retry", *dashes, out, *inputs])
