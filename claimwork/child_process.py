"""A child process from fork to exit: tickets come in by name, answers go out as JSON.

Everything that is raised becomes an answer; only a signal ends a child in any other way. What a ticket asks for is done by
`TicketWork`, which knows no process, so that the simulation runs the same code.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from . import policy
from .child import Mapper
from .clock import Clock, SystemClock
from .errors import ClaimworkError, Fenced, UsageError, WorkerFault, is_mount_errno, mount_fault
from .finalizer import ReduceReport, reduce_generation
from .fs import Fs, PosixFs
from .layout import Layout
from .names import Kind, Ticket, parse_ticket
from .planner import Found, Planner, PlanReport, list_inputs
from .records import Job
from .results import Stage
from .retrying import RetryingFs
from .splitter import Progress
from .stores import make_store
from .tasks import Runner, adopt_orphans, die_with_parent, load_runner

NEVER = 1 << 62  # an index that no child reaches
CONTROL = b"control "  # before the name of a ticket: see `Executor.start`
LOST = -1  # in place of the index to stop before: the claims are gone
_COUNT_EVERY = 64  # inputs of a listing: each has a system call of its own, and the count is to cost nothing beside it


class SharedProgress(ctypes.Structure):
    """One slot's progress, in memory that worker and child share."""

    _fields_ = (
        ("index", ctypes.c_int64),
        ("begun_at", ctypes.c_double),
        ("stop", ctypes.c_int64),
        ("loaded", ctypes.c_int64),
        ("counted", ctypes.c_int64),
    )


class _ChildProgress:
    def __init__(self, shared: SharedProgress, clock: Clock) -> None:
        self._shared = shared
        self._now = clock.monotonic

    def loaded(self) -> None:
        self._shared.loaded = 1

    def begin(self, index: int) -> None:
        self._shared.begun_at = self._now()
        self._shared.index = index

    def end(self) -> None:
        self._shared.index = -1

    def counted(self, count: int) -> None:
        self._shared.counted = count

    def stops_at(self) -> int:
        return int(self._shared.stop)

    def is_set(self) -> bool:
        return int(self._shared.stop) == LOST


def child_main(
    connection: Connection,
    log_fd: int,
    shared: SharedProgress,
    out: str,
    job: Job,
    worker: str,
    prefix: str,
    input_dir: str,
    *,
    verbose: bool = False,
) -> None:
    """Serve tickets until the worker closes the pipe. Never returns."""
    parent = os.getppid()
    os.setsid()
    signal.set_wakeup_fd(-1)  # the worker's: closed below, its number would soon mean another file
    # Handlers, not SIG_IGN, which programs started from here would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)
    die_with_parent(parent, signal.SIGKILL)
    if job.command:
        adopt_orphans()
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    keep = connection.fileno()
    limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096)
    os.closerange(3, keep)  # among them the heartbeat and the OS lock, which must die with the worker
    os.closerange(keep + 1, limit)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for the life of the process
    sys.stdout = open(1, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    clock = SystemClock()
    fs, layout = RetryingFs(PosixFs(out, clock), clock), Layout(out)
    progress = _ChildProgress(shared, clock)
    work = TicketWork(fs, layout, job, worker, prefix, input_dir, clock, progress, verbose=verbose)
    while True:
        try:
            name = connection.recv_bytes()
        except (EOFError, OSError):
            break
        answer = work.run(parse_ticket(name.removeprefix(CONTROL).decode()), control=name.startswith(CONTROL))
        sys.stdout.flush()
        connection.send_bytes(json.dumps(answer).encode())
    os._exit(0)


def _ignore(_number: int, _frame: object) -> None:
    pass


class TicketWork:
    """A child's side of a ticket: everything that is raised becomes an answer."""

    def __init__(
        self,
        fs: Fs,
        layout: Layout,
        job: Job,
        worker: str,
        prefix: str,
        input_dir: str,
        clock: Clock,
        progress: Progress,
        load: Callable[[Job], Runner] = load_runner,
        find: Callable[[str, Job, Callable[[str], None]], Iterator[Found]] = list_inputs,
        *,
        verbose: bool = False,
    ) -> None:
        self._verbose = verbose
        self._load = load
        self._find = find
        self._fs = fs
        self._layout = layout
        self._job = job
        self._worker = worker
        self._input_dir = input_dir
        self._clock = clock
        self._progress = progress
        self._stage = Stage(fs, layout, worker, prefix)
        self._runner: Runner | None = None
        self._mapper: Mapper | None = None

    def run(self, ticket: Ticket, *, control: bool = False) -> dict[str, Any]:
        """Do what *ticket* asks for; the answer is JSON, its ``kind`` tells which (`executor.event_of` reads it).

        With *control* nothing is published; the report says whether the input succeeded.
        """
        try:
            return self._run(ticket, control=control)
        except Fenced as error:
            return {"kind": "fenced", "error": str(error)}
        except UsageError as error:
            return {"kind": "usage", "error": str(error)}
        except ClaimworkError as error:
            return {"kind": "fault", "error": str(error)}
        except OSError as error:
            if is_mount_errno(error.errno) and ticket.kind is not Kind.REDUCE:
                return {"kind": "fault", "error": str(mount_fault(error, self._layout.out))}
            return _exception(error)
        except Exception as error:  # whatever a reducer raises
            return _exception(error)

    def _run(self, ticket: Ticket, *, control: bool) -> dict[str, Any]:
        match ticket.kind:
            case Kind.MAP | Kind.PART:
                mapped = self._get_mapper().run(ticket, control=control)
                return {"kind": "mapped", "report": mapped.to_json()}
            case Kind.PLAN:
                return {"kind": "planned", "report": asdict(self._plan())}
            case Kind.REDUCE:
                report = self._reduce(ticket.segment)
                return {"kind": "reduced", "report": None if report is None else asdict(report)}

    def _get_runner(self) -> Runner:
        if self._runner is None:
            self._runner = self._load(self._job)
            self._progress.loaded()
        return self._runner

    def _get_mapper(self) -> Mapper:
        if self._mapper is None:
            runner = self._get_runner()
            self._mapper = Mapper(
                self._fs,
                self._layout,
                self._job,
                self._stage,
                self._input_dir,
                runner,
                self._clock,
                self._progress,
                verbose=self._verbose,
            )
        return self._mapper

    def _reduce(self, entry: int) -> ReduceReport | None:
        """What the summary of *entry* is about; None when that of a later generation has taken its place."""
        started = self._clock.monotonic()
        reduce = self._get_runner().reduce
        summary = reduce_generation(
            self._fs, self._layout, self._job, self._stage, entry, reduce, self._progress.counted
        )
        if summary is None:
            return None
        took_s = self._clock.monotonic() - started
        return ReduceReport(summary.generation, summary.results, summary.quarantined, took_s)

    def _plan(self) -> PlanReport:
        started = self._clock.monotonic()
        store = make_store(self._job, self._fs, self._layout, self._worker, self._stage)
        skipped: list[str] = []
        planner = Planner(self._fs, self._layout, self._job, self._stage, store)
        report = planner.plan(self._list(skipped))
        report.unreadable = len(skipped)
        report.took_s = self._clock.monotonic() - started
        return report

    def _list(self, skipped: list[str]) -> Iterator[Found]:
        try:
            for count, found in enumerate(self._find(self._input_dir, self._job, skipped.append), 1):
                if count % _COUNT_EVERY == 0:
                    self._progress.counted(count)
                yield found
        except OSError as error:
            raise WorkerFault(
                f"cannot list the inputs in {self._input_dir!r}: {(error.strerror or str(error)).lower()}; "
                "mount the input directory there"
            ) from None


def _exception(error: Exception) -> dict[str, Any]:
    detail = "".join(traceback.format_exception(error))[-policy.LOG_TAIL_BYTES :]
    words = f"{type(error).__name__}: {error}".replace("\n", " ")[:1000]
    return {"kind": "exception", "error": words, "detail": detail}
