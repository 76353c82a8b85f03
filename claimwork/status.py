"""Status: an immutable `Snapshot` of a job, built by reading alone; safe from any host at any time.

It costs listings of names, a record for each live worker, and the closes of the plan; never a look at each input.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from . import records
from .clock import Clock
from .coverage import Coverage, JobState
from .errors import Exit, RecordError
from .finalizer import read_summary
from .fs import Fs
from .heartbeat import live_workers
from .job import require_job
from .layout import Layout
from .names import Kind, Ticket, is_worker, tickets_among
from .plan_log import PlanLog
from .policy import missing_ranges
from .records import BeatRecord, Close
from .results import done_ranges

SCHEMA = 1
_SAMPLED_REPORTS = 200  # quarantine reports read to group failures; the rest is only counted


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One live worker as its last record tells it; ``beat_age_s`` by this host's clock, for information."""

    id: str
    host: str
    slot: str
    node: str
    state: str
    slots: int
    beat_age_s: float
    done: int
    failed: int
    done_bytes: int
    current: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Quarantined inputs with one cause."""

    count: int
    error: str
    sample: str


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment. Inputs: ``total = done + quarantined + running + backing_off + pending``."""

    out: str
    job_id: str
    task: str
    verdict: str
    words: str
    exit_code: int
    generation: int
    total: int
    done: int
    quarantined: int
    running: int
    backing_off: int
    pending: int
    total_bytes: int
    done_bytes: int
    reclaimed: int
    fenced: int
    started_at: float
    workers: tuple[WorkerView, ...] = ()
    trouble: tuple[Trouble, ...] = ()
    summary: Any = field(default=None)
    has_summary: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of ``status --json``."""
        return {"schema": SCHEMA, **asdict(self)}


class StatusReader:
    """Builds snapshots; remembers the segments that are complete, so that looking again is cheap."""

    def __init__(self, fs: Fs, layout: Layout, clock: Clock) -> None:
        self._fs = fs
        self._layout = layout
        self._clock = clock
        self._log = PlanLog(fs, layout)
        self._coverage = Coverage(fs, layout, self._log)

    def read(self) -> Snapshot:
        """A fresh snapshot. Raises NotAJob when OUT holds no job."""
        job = require_job(self._fs, self._layout)
        closes, _ = self._log.closes()
        state = self._coverage.state()
        total, settled, total_bytes, done_bytes = self._counts(closes)
        reports = self._coverage.reports(job)
        quarantined = len(reports)
        workers = [
            self._view(record) for record in self._beats(self._layout.live, live_workers(self._fs, self._layout))
        ]
        gone = self._beats(self._layout.left, filter(is_worker, self._fs.names(self._layout.left)))
        ready = self._ready()
        backing_off = sum(ticket.count for ticket in ready if ticket.delay_ms)
        left = max(total - settled, 0)
        running = min(sum(":" in name for view in workers for name, _ in view.current), left)
        backing_off = min(backing_off, left - running)
        summary = None
        if state.reduced and state.close is not None:
            summary = read_summary(self._fs, self._layout, state.close[0])
        blocked = [
            t
            for t in ready
            if t.kind is Kind.REDUCE and self._coverage.is_spent(t, job) and state.close and t.segment == state.close[0]
        ]
        verdict, words, code = _verdict(
            state,
            left=left,
            quarantined=quarantined,
            workers=workers,
            blocked=bool(blocked) and state.covered and not state.reduced,
            over=job.max_quarantined is not None and quarantined > job.max_quarantined,
        )
        return Snapshot(
            out=self._layout.out,
            job_id=job.id,
            task=job.describe(),
            verdict=verdict,
            words=words,
            exit_code=int(code),
            generation=0 if state.close is None else state.close[1].generation,
            total=total,
            done=max(settled - quarantined, 0),
            quarantined=quarantined,
            running=running,
            backing_off=backing_off,
            pending=left - running - backing_off,
            total_bytes=total_bytes,
            done_bytes=done_bytes,
            reclaimed=sum(each.reclaimed for each in gone) + sum(each.reclaimed for each in self._live),
            fenced=sum(each.fenced for each in gone) + sum(each.fenced for each in self._live),
            started_at=job.created_at,
            workers=tuple(workers),
            trouble=self._trouble(reports, job.id),
            summary=None if summary is None else summary.value,
            has_summary=summary is not None,
        )

    def _counts(self, closes: list[tuple[int, Close]]) -> tuple[int, int, int, int]:
        """Inputs planned, inputs settled, and their bytes; the bytes of a segment in work are shared out by count."""
        total = settled = total_bytes = done_bytes = 0
        for _, close in closes:
            total -= close.retried
            settled -= close.retried
            total_bytes -= close.retried_bytes
            done_bytes -= close.retried_bytes
            for number, count, size in close.segments:
                total += count
                total_bytes += size
                if self._coverage.is_full(number, count):
                    settled += count
                    done_bytes += size
                else:
                    gaps = missing_ranges(count, done_ranges(self._fs, self._layout, number))
                    covered = count - sum(hi - lo for lo, hi in gaps)
                    settled += covered
                    done_bytes += size * covered // count
        return total, max(settled, 0), total_bytes, max(done_bytes, 0)

    def _beats(self, directory: str, workers: Any) -> list[BeatRecord]:
        found = []
        for worker in workers:
            path = f"{directory}/{worker}"
            try:
                found.append(records.parse_beat(self._fs.read(path, records.SMALL_LIMIT_BYTES), path))
            except (OSError, RecordError):
                continue  # gone since the listing, or torn
        if directory == self._layout.live:
            self._live = found
        return found

    def _view(self, record: BeatRecord) -> WorkerView:
        return WorkerView(
            record.worker,
            record.host,
            record.slot,
            record.node,
            record.state,
            record.slots,
            round(max(self._clock.time() - record.at, 0.0), 1),
            record.done,
            record.failed,
            record.done_bytes,
            tuple(record.current),
        )

    def _ready(self) -> list[Ticket]:
        found: list[Ticket] = []
        for shard in self._fs.names(self._layout.ready):
            try:
                found += tickets_among(self._fs.names(f"{self._layout.ready}/{shard}"))
            except OSError:
                continue
        return found

    def _trouble(self, reports: list[str], job_id: str) -> tuple[Trouble, ...]:
        causes: Counter[str] = Counter()
        samples: dict[str, str] = {}
        for path in reports[:_SAMPLED_REPORTS]:
            try:
                report = records.parse_quarantine(self._fs.read(path, records.SMALL_LIMIT_BYTES), path, job_id)
            except (OSError, RecordError):
                continue
            if report:
                causes[report[-1].error] += 1
                samples.setdefault(report[-1].error, report[-1].input)
        return tuple(Trouble(count, error, samples[error]) for error, count in causes.most_common(5))


def _verdict(
    state: JobState, *, left: int, quarantined: int, workers: list[WorkerView], blocked: bool, over: bool
) -> tuple[str, str, Exit]:
    if state.complete:
        if quarantined:
            return "DONE", f"all inputs are settled, {quarantined} of them quarantined", Exit.QUARANTINED
        return "DONE", "every input has its result", Exit.COMPLETE
    if blocked:
        return "BLOCKED", "the reducer failed; mend it, then: claimwork reduce", Exit.WORK_REMAINS
    if over:
        return "BLOCKED", f"{quarantined} quarantined, more than the job allows", Exit.QUARANTINED
    if not workers:
        what = f"{left} pending" if state.close is not None and left else "work remains"
        return "STALLED", f"{what} and no live worker", Exit.WORK_REMAINS
    if state.close is None:
        return "PLANNING", "listing the inputs", Exit.WORK_REMAINS
    if state.covered and not state.planning:
        return "REDUCING", "every input is settled; the summary is being made", Exit.WORK_REMAINS
    if all(worker.state == "draining" for worker in workers):
        return "DRAINING", f"{left} left, and every worker is stopping", Exit.WORK_REMAINS
    return "RUNNING", f"{left} left", Exit.WORK_REMAINS
