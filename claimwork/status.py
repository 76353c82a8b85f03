"""Status: builds a `Snapshot` of a job by reading alone; safe from any host at any time.

A look costs listings of the tickets that are open, a record for each live worker, the closes of the plan, and a bounded number
of done records and reports: never something for each input. What does not change any more is remembered.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from . import forecast, records
from .clock import Clock
from .coverage import Coverage
from .effort import Effort
from .errors import RecordError
from .finalizer import read_summary
from .forecast import InHand
from .fs import Fs
from .heartbeat import graves, live_workers, read_beat
from .job import require_job
from .layout import Layout
from .names import Kind, is_worker, parse_place
from .plan_log import PlanLog
from .policy import piece_bytes
from .progress import Open, ProgressReader
from .records import BeatRecord, Job
from .snapshot import Current, Facts, Snapshot, Tail, WorkerView, verdict
from .trouble import TroubleReader, retry_command

_LEFT_READS = 256  # records of workers that left, for one look
_LOST_SHOWN = 3


@dataclass
class _Seen:
    """When I last saw a beat change, by my monotonic clock; ``changed`` once I have."""

    data: bytes
    since: float
    changed: bool = False


class StatusReader:
    """Builds snapshots; the longer it looks, the less a look costs and the more it knows."""

    def __init__(self, fs: Fs, layout: Layout, clock: Clock) -> None:
        self._fs = fs
        self._layout = layout
        self._clock = clock
        self._log = PlanLog(fs, layout)
        self._coverage = Coverage(fs, layout, self._log)
        self._progress = ProgressReader(fs, layout, self._log)
        self._trouble = TroubleReader(fs, layout)
        self._seen: dict[str, _Seen] = {}
        self._left: dict[str, BeatRecord | None] = {}

    def read(self) -> Snapshot:
        """A fresh snapshot. Raises NotAJob when OUT holds no job."""
        job = require_job(self._fs, self._layout)
        closes, ended = self._log.closes()
        close = closes[-1] if closes else None
        summary = None
        if close is not None and self._coverage.is_reduced(close[0]):
            summary = read_summary(self._fs, self._layout, close[0])  # whoever made it found everything settled
        live = self._beats()
        counted = self._progress.look(closes, all_settled=summary is not None)
        left_read = self._read_left()
        gone = [each for each in self._left.values() if each is not None]
        waits, reduces = counted.reductions
        delayed = [t for t in counted.ready if t.kind is Kind.MAP and t.delay_ms]
        generation = close[1].generation if close is not None else 0
        waiting = self._coverage.retried_waiting(job) if counted.retried_open else ()
        troubles = self._trouble.look(job, generation, waiting, delayed)
        quarantined = min(troubles.quarantined, counted.settled)
        if summary is not None and not troubles.exact:
            quarantined = summary.quarantined
        blocked = [t for t in waits if close is not None and t.segment == close[0] and self._coverage.is_spent(t, job)]
        covered = close is not None and not counted.left and (counted.exact or bool(reduces) or summary is not None)
        effort = sum((each.effort for each in itertools.chain(live, gone)), Effort())
        workers = self._views(live, gone, job, effort)
        alive = [each for each in workers if each.is_live]
        living = {each.id for each in alive}
        working = [each for each in live if each.worker in living]
        word, words, code = verdict(
            Facts(
                planned=close is not None,
                total=counted.total,
                complete=summary is not None and ended,
                covered=covered,
                planning=not ended,
                left=counted.left,
                quarantined=quarantined,
                live=tuple(each.state for each in alive),
                silent=sum(each.state == "suspect" for each in workers),
                blocked=bool(blocked) and covered and summary is None,
                over=job.max_quarantined is not None and quarantined > job.max_quarantined,
                alone_s=min((self._clock.time() - each.at for each in gone), default=None),
            )
        )
        places = {name for each in live for name, _ in each.current if ":" in name}  # many may be at parts of one
        running = min(len(places), counted.left)
        backing_off = min(sum(ticket.count for ticket in delayed), counted.left - running)
        in_hand = self._in_hand(working, counted, job)
        pieces = counted.pieces
        left_bytes = counted.total_bytes - counted.settled_bytes
        median_s = effort.median_s()
        late = forecast.straggle(in_hand, median_s, pieces)
        return Snapshot(
            out=self._layout.out,
            job_id=job.id,
            task=job.describe(),
            verdict=word,
            words=words,
            exit_code=int(code),
            generation=generation,
            total=counted.total,
            done=counted.settled - quarantined,
            quarantined=quarantined,
            running=running,
            backing_off=backing_off,
            pending=counted.left - running - backing_off,
            total_bytes=counted.total_bytes,
            done_bytes=counted.settled_bytes,
            reclaimed=sum(each.reclaimed for each in itertools.chain(live, gone)),
            fenced=sum(each.fenced for each in itertools.chain(live, gone)),
            lost=sum(each.state != "left" for each in gone),
            started_at=job.created_at,
            at=self._clock.time(),
            exact=counted.exact and troubles.exact and left_read,
            rate_1m=forecast.total_rate(working, 0),
            rate_10m=forecast.total_rate(working, 1),
            eta=None
            if counted.left == backing_off  # it hangs on how long they wait, and not on how fast anybody works
            else forecast.eta(effort, working, in_hand, counted.settled, pieces, left_bytes),
            median_s=median_s,
            tail=None if late is None else Tail(*late),
            live=len(alive),
            workers=tuple(workers),
            trouble=troubles.groups,
            retry=retry_command(self._layout.out, []) if quarantined else "",
            summary=None if summary is None else summary.value,
            has_summary=summary is not None,
            failed=sum(each.failed for each in itertools.chain(live, gone)),
        )

    # -- workers ------------------------------------------------------------------------------------------------------

    def _beats(self) -> list[BeatRecord]:
        found = []
        now = self._clock.monotonic()
        workers = live_workers(self._fs, self._layout)
        for worker in workers:
            path = self._layout.live_of(worker)
            try:
                data = self._fs.read(path, records.SMALL_LIMIT_BYTES)
            except (OSError, RecordError):
                continue  # gone since the listing
            seen = self._seen.get(worker)
            if seen is None:
                self._seen[worker] = _Seen(data, now)
            elif seen.data != data:
                self._seen[worker] = _Seen(data, now, changed=True)
            try:
                found.append(records.parse_beat(data, path))
            except RecordError:
                continue  # torn
        for worker in self._seen.keys() - set(workers):
            del self._seen[worker]
        return found

    def _read_left(self) -> bool:
        """Read last records that are new, some at a time; True when all are read. They never change."""
        names = set(filter(is_worker, self._fs.names(self._layout.left)))
        self._left = {worker: record for worker, record in self._left.items() if worker in names}
        fresh = sorted(names - self._left.keys())
        for worker in fresh[:_LEFT_READS]:
            self._left[worker] = read_beat(self._fs, self._layout.left_of(worker))
        return len(fresh) <= _LEFT_READS

    def _views(self, live: list[BeatRecord], gone: list[BeatRecord], job: Job, effort: Effort) -> list[WorkerView]:
        dead = set(graves(self._fs, self._layout))
        done = sum(each.done for each in itertools.chain(live, gone)) or 1
        lost = sorted((each for each in gone if each.state != "left"), key=lambda each: -each.at)[:_LOST_SHOWN]
        views = [self._view(each, job, effort, done, is_lost=each.worker in dead) for each in live]
        return views + [self._view(each, job, effort, done, is_lost=True) for each in lost]

    def _view(self, record: BeatRecord, job: Job, effort: Effort, done: int, *, is_lost: bool) -> WorkerView:
        seen = self._seen.get(record.worker)
        still_s = 0.0 if seen is None else self._clock.monotonic() - seen.since
        observed = seen is not None and seen.changed
        age_s = still_s if observed else max(self._clock.time() - record.at, still_s)
        state, why = record.state, ""
        if is_lost:
            state, why = "lost", "no sign of life; its work was taken back"
        elif still_s > job.patience_s:
            state, why = "suspect", "its beat stands still"
        elif not observed and age_s > 2 * job.patience_s:
            why = "silent for long, if the clocks agree"
        median_s = effort.median_s()
        current = [] if is_lost else record.current
        return WorkerView(
            record.worker,
            record.host,
            record.slot,
            record.node,
            record.service,
            state,
            why,
            record.slots,
            round(age_s, 1),
            observed,
            record.done,
            record.failed,
            record.done_bytes,
            round(record.done / done, 3),
            forecast.Rate() if is_lost else forecast.rate_of(record, 0),
            tuple(self._current(name, since, median_s) for name, since in current),
        )

    def _current(self, what: str, since: float, median_s: float | None) -> Current:
        place = parse_place(what)
        each = None if place is None else self._progress.input_at(*place)
        medians = round(since / median_s, 1) if median_s and place is not None else None
        return Current(what, None if each is None else each.path, since, medians)

    def _in_hand(self, beats: Iterable[BeatRecord], counted: Open, job: Job) -> list[InHand]:
        found: dict[tuple[int, int, int], InHand] = {}  # a copy is no second input, but each part counts
        for record in beats:
            tickets = counted.held.get(record.worker, [])
            for what, since in record.current:
                place = parse_place(what)
                if place is None:
                    continue
                number, index = place
                each = self._progress.input_at(number, index)
                ticket = next((t for t in tickets if t.segment == number and t.lo <= index < t.hi), None)
                behind = 0 if ticket is None else index - ticket.lo
                behind_bytes = 0.0 if ticket is None else ticket.size_bytes * behind / ticket.count
                size = None if each is None else piece_bytes(each.size_bytes, job.split_bytes)
                nth = 0 if each is None or size == each.size_bytes else len(found)
                known = found.get((number, index, nth))
                if known is None or known.for_s < since:
                    found[number, index, nth] = InHand(since, size, behind, behind_bytes)
        return list(found.values())
