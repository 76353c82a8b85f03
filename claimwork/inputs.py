"""Single inputs: the life of one (`why`), quarantined ones back to ready (`retry`), all results as one document (`export`)."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from . import records
from .attempts import noted
from .claims import ClaimStore
from .errors import UsageError
from .finalizer import ResultReader
from .fs import Fs
from .heartbeat import read_beat
from .layout import Layout
from .names import Kind, Ticket, is_worker, tickets_among
from .parts import known_parts
from .plan_log import PlanLog
from .planner import Planner
from .policy import part_count
from .records import Failure, Input, Job, Outcome, Segment
from .results import Places, Stage, done_ranges, read_done

_BATCH = 1000  # rows handed to the output at once


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of one input. ``state``: pending, backing off, held, done or quarantined.

    ``parts``: in how many it is processed; ``parts_known``: so many of them are known while it is open.
    """

    path: str
    size_bytes: int
    segment: int
    index: int
    state: str
    result: str
    outcome: Outcome | None
    ticket: Ticket | None
    holder: str | None
    holder_record: records.BeatRecord | None
    failures: tuple[Failure, ...]
    parts: int = 1
    parts_known: int = 0

    def to_json(self) -> dict[str, Any]:
        """The document of ``why --json``."""
        return {
            "schema": 1,
            "input": self.path,
            "size_bytes": self.size_bytes,
            "segment": self.segment,
            "index": self.index,
            "state": self.state,
            "result": self.result if self.state == "done" else None,
            "digest": self.outcome.digest if self.outcome and self.outcome.ok else None,
            "attempt": self.ticket.attempt if self.ticket else None,
            "parts": self.parts,
            "parts_known": self.parts_known,
            "holder": self.holder,
            "holder_host": self.holder_record.host if self.holder_record else None,
            "failures": [
                {"attempt": each.attempt, "kind": each.kind, "error": each.error, "host": each.host}
                for each in self.failures
            ],
        }


def life_of(fs: Fs, layout: Layout, job: Job, path: str) -> Life:
    """The life of one input. Raises UsageError when it was never planned. Reads the plan once."""
    found = None
    for number, entry in PlanLog(fs, layout).entries():
        if isinstance(entry, Segment):
            for index, each in enumerate(entry.inputs):
                if each.path == path:
                    found = (number, index, each)  # the last one counts: it may have been retried
    if found is None:
        raise UsageError(
            f"input {path!r} is not in the plan; give its path below IN, as in results/ without the ending"
        )
    number, index, each = found
    places = Places.of(layout, job, number, index, each)
    outcome = _outcome(fs, layout, number, index)
    ticket, holder = _ticket_of(fs, layout, number, index) if outcome is None else (None, None)
    if outcome is not None:
        state = "done" if outcome.ok else "quarantined"
    elif holder is not None:
        state = "held"
    else:
        state = "backing off" if ticket is not None and ticket.delay_ms else "pending"
    beat = None if holder is None else read_beat(fs, layout.live_of(holder))
    failures = tuple(noted(fs, layout, number, index))
    parts = part_count(each.size_bytes, job.split_bytes)
    known = len(known_parts(fs, layout, number).values) if parts > 1 and outcome is None else 0
    return Life(
        path,
        each.size_bytes,
        number,
        index,
        state,
        places.result,
        outcome,
        ticket,
        holder,
        beat,
        failures,
        parts,
        known,
    )


def search(fs: Fs, layout: Layout, text: str, limit: int) -> list[str]:
    """Up to *limit* planned inputs, in the order of the plan: those that fit a glob, or whose path holds *text*."""
    is_glob = bool(set(text) & set("*?["))
    found: dict[str, None] = {}  # in order, and each once: a retried input is planned again
    for _, entry in PlanLog(fs, layout).entries():
        if isinstance(entry, Segment):
            for each in entry.inputs:
                if fnmatch.fnmatchcase(each.path, text) if is_glob else text in each.path:
                    found[each.path] = None
                    if len(found) == limit:
                        return list(found)
    return list(found)


def _outcome(fs: Fs, layout: Layout, number: int, index: int) -> Outcome | None:
    for lo, hi in done_ranges(fs, layout, number):
        if lo <= index < hi:
            return read_done(fs, layout, number, lo, hi).outcomes[index - lo]
    return None


def _ticket_of(fs: Fs, layout: Layout, number: int, index: int) -> tuple[Ticket | None, str | None]:
    def among(directory: str) -> Ticket | None:
        try:
            listed = tickets_among(fs.names(directory))
        except OSError:
            return None
        fitting = (t for t in listed if t.kind is Kind.MAP and t.segment == number and t.lo <= index < t.hi)
        return next(fitting, None)

    for worker in filter(is_worker, fs.names(layout.work)):
        ticket = among(layout.work_of(worker))
        if ticket is not None:
            return ticket, worker
    for shard in fs.names(layout.ready):
        ticket = among(f"{layout.ready}/{shard}")
        if ticket is not None:
            return ticket, None
    return None, None


def quarantined(fs: Fs, layout: Layout, patterns: list[str]) -> list[Input]:
    """Quarantined inputs whose path matches one of *patterns* (all without any), ready to be planned again.

    An input that was retried already and has not ended since is left out.
    """
    latest: dict[str, tuple[int, int, Input]] = {}
    ended: set[tuple[int, int]] = set()
    log = PlanLog(fs, layout)
    for number, entry in log.entries():
        if not isinstance(entry, Segment):
            continue
        failed = {
            index
            for lo, hi in done_ranges(fs, layout, number)
            for index, outcome in enumerate(read_done(fs, layout, number, lo, hi).outcomes, lo)
            if not outcome.ok
        }
        for index, each in enumerate(entry.inputs):
            if index in failed:
                latest[each.path] = (number, index, each)
                ended.add((number, index))
            elif each.path in latest:
                del latest[each.path]  # planned again since: pending, or done
    found = []
    for path, (number, index, each) in sorted(latest.items()):
        if not patterns or any(path == pattern or fnmatch.fnmatchcase(path, pattern) for pattern in patterns):
            found.append(Input(path, each.size_bytes, each.result, (number, index)))
    return found


def retry(fs: Fs, layout: Layout, job: Job, stage: Stage, store: ClaimStore, chosen: list[Input]) -> None:
    """Plan quarantined inputs again: **the link of the new segment** decides.

    The old report of each stands until the input is settled anew; whoever settles it withdraws or replaces the report.
    """
    if chosen:
        Planner(fs, layout, job, stage, store).retry(chosen)


def export(reader: ResultReader, form: str, out: TextIO) -> None:
    """Write all results: ``json`` (one object, input → value), ``jsonl`` (one object a line) or ``csv``. Streams."""
    if form == "json":
        _export_json(reader, out)
    elif form == "jsonl":
        out.writelines(records.dumps({"input": each.input, "value": each.value}).decode() + "\n" for each in reader)
    elif form == "csv":
        _export_csv(reader, out)
    else:
        raise UsageError(f"format {form!r} is unknown; there are json, jsonl and csv")


def _export_json(reader: ResultReader, out: TextIO) -> None:
    out.write("{")
    separator = "\n"
    for each in reader:
        out.write(f"{separator}{records.dumps(each.input).decode()}: {records.dumps(each.value).decode()}")
        separator = ",\n"
    out.write("\n}\n")


def _export_csv(reader: ResultReader, out: TextIO) -> None:
    """Columns: input, then the keys of the first value when it is an object; other values stand in one column."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    keys: list[str] | None = None
    for row, each in enumerate(_with_printable_names(reader)):
        name, value = each
        if keys is None:
            keys = [str(key) for key in value] if isinstance(value, dict) else ["value"]
            writer.writerow(["input", *keys])
        if isinstance(value, dict) and keys != ["value"]:
            writer.writerow([name, *(_cell(value.get(key)) for key in keys)])
        else:
            writer.writerow([name, _cell(value)])
        if row % _BATCH == 0:
            out.write(buffer.getvalue())
            buffer.seek(0)
            buffer.truncate()
    out.write(buffer.getvalue())


def _with_printable_names(reader: ResultReader) -> Iterator[tuple[str, Any]]:
    for each in reader:
        yield each.input.encode("utf-8", "backslashreplace").decode(), each.value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
